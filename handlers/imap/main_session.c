/*
 * imap-session: the whole IMAP command set after login, on fds 0 and 1. Runs as the user, never as root. Started by the
 * monitor `imap` after login, or by anyone on a pipe, a terminal or a socket (`* PREAUTH`). Touches the user's
 * mailboxes and state folder only.
 *
 * Exit status: 0 ended by LOGOUT, 1 by the end of input or an error, 64 and up wrong usage or set-up (sysexits).
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "handlers/imap/session.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/gate/start.h"

static int usage(const char *what)
{
    fprintf(stderr, "imap-session: %s\nusage: imap-session [-c FILE] [-o key=value]... [--epoch=SECONDS]\n", what);
    return EX_USAGE;
}

static void ignore_sigpipe(void)
{
    struct sigaction action = {.sa_handler = SIG_IGN};

    (void)sigaction(SIGPIPE, &action, NULL);
}

/* The one line that says what the session was. */
static void log_summary(const struct imap *s, int64_t started)
{
    char in[24], out[24], commands[24], seconds[24];

    (void)snprintf(in, sizeof(in), "%" PRIu64, s->in.received);
    (void)snprintf(out, sizeof(out), "%" PRIu64, s->out.sent);
    (void)snprintf(commands, sizeof(commands), "%" PRIu64, s->commands);
    (void)snprintf(seconds, sizeof(seconds), "%" PRId64, (clock_monotonic_ms() - started) / 1000);
    LOG_EVENT(LOG_INFO, "imap_session", LOG_FC("end", s->end), LOG_FC("commands", commands), LOG_FC("in", in),
              LOG_FC("out", out), LOG_FC("seconds", seconds), LOG_FC("tls", s->who->is_tls ? s->who->tls : "no"));
}

/* Answers what went wrong before there was a session to answer for. */
static int refuse(const struct session *who, int error)
{
    const char *text =
        error == -EPERM ? "Mail is not served to root: run this as the user whose mail it is" : strerror(-error);

    fprintf(stdout, "* BYE [UNAVAILABLE] %s\r\n", text);
    LOG_ERROR(LOG_ERR, "imap_session_start", error, LOG_FC("user", who->user ? who->user : ""));
    return error == -EPERM ? EX_NOPERM : error == -ENOENT ? EX_NOUSER : error == -EBADMSG ? EX_PROTOCOL : EX_OSERR;
}

static int serve(struct conf *conf)
{
    _cleanup_session_ struct session who = {.control = -1};
    int64_t started = clock_monotonic_ms();
    struct imap s;
    int r = session_start(conf, &who);

    if (r < 0)
        return refuse(&who, r);
    log_context("user", str_from(who.user));
    log_context("peer", str_from(who.peer));
    r = imap_init(&s, conf, &who, STDIN_FILENO, STDOUT_FILENO);
    if (r >= 0)
        r = imap_run(&s);
    else
        s.end = "error";
    log_summary(&s, started);
    imap_finish(&s);
    return r < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    _cleanup_conf_ struct conf conf;
    int r = conf_init(&conf);

    if (r < 0)
        return EX_OSERR;
    r = conf_args(&conf, &argc, argv);
    if (r < 0)
        return usage(buf_cstr(&conf.error));
    if (argc > 1)
        return usage("unknown argument");
    ignore_sigpipe();
    log_open("imap-session", isatty(STDERR_FILENO));
    if (!getenv(GATE_CONTROL_ENV)) /* else the monitor has said so */
        start_warn("imap-session", &conf, true);
    return serve(&conf);
}
