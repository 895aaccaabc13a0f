/*
 * pop2-session: POP2 after login, on fds 0 and 1. Runs as the user, never as root. Started by the monitor `pop2` after
 * login, or by anyone on a pipe, a terminal or a socket. Touches the user's INBOX, mail folders and state folder only.
 *
 * Exit status: 0 ended by QUIT, 1 by the end of input or an error, 64 and up wrong usage or set-up (sysexits).
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "handlers/pop2/session.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/gate/start.h"

static int usage(const char *what)
{
    fprintf(stderr, "pop2-session: %s\nusage: pop2-session [-c FILE] [-o key=value]... [--epoch=SECONDS]\n", what);
    return EX_USAGE;
}

static void ignore_sigpipe(void)
{
    struct sigaction action = {.sa_handler = SIG_IGN};

    (void)sigaction(SIGPIPE, &action, NULL);
}

/* The one line that says what the session was. */
static void log_summary(const struct pop2 *s, int64_t started)
{
    const uint64_t numbers[] = {
        s->count.commands, s->count.retr,  s->count.retr_bytes, s->count.folders,
        s->count.removed,  s->in.received, s->out.sent,         (uint64_t)(clock_monotonic_ms() - started) / 1000};
    char text[ARRAY_SIZE(numbers)][24];

    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        (void)snprintf(text[i], sizeof(text[i]), "%" PRIu64, numbers[i]);
    LOG_EVENT(LOG_INFO, "pop2_session", LOG_FC("end", s->end), LOG_FC("commands", text[0]), LOG_FC("retr", text[1]),
              LOG_FC("retr_bytes", text[2]), LOG_FC("folders", text[3]), LOG_FC("deleted", text[4]),
              LOG_FC("in", text[5]), LOG_FC("out", text[6]), LOG_FC("seconds", text[7]),
              LOG_FC("tls", s->who->is_tls ? s->who->tls : "no"));
}

/* Answers what went wrong before there was a session to answer for. */
static int refuse(const struct session *who, int error)
{
    const char *text =
        error == -EPERM ? "Mail is not served to root: run this as the user whose mail it is" : strerror(-error);

    fprintf(stdout, "- %s\r\n", text);
    LOG_ERROR(LOG_ERR, "pop2_session_start", error, LOG_FC("user", who->user ? who->user : ""));
    return error == -EPERM ? EX_NOPERM : error == -ENOENT ? EX_NOUSER : error == -EBADMSG ? EX_PROTOCOL : EX_OSERR;
}

static int serve(struct conf *conf)
{
    _cleanup_session_ struct session who = {.control = -1};
    int64_t started = clock_monotonic_ms();
    struct pop2 s;
    int r = session_start(conf, &who);

    if (r < 0)
        return refuse(&who, r);
    log_context("user", str_from(who.user));
    log_context("peer", str_from(who.peer));
    r = pop2_init(&s, conf, &who, STDIN_FILENO, STDOUT_FILENO);
    if (r >= 0)
        r = pop2_run(&s);
    log_summary(&s, started);
    pop2_finish(&s);
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
    log_open("pop2-session", isatty(STDERR_FILENO));
    if (!getenv(GATE_CONTROL_ENV)) /* else the monitor has said so */
        start_warn("pop2-session", &conf, true);
    return serve(&conf);
}
