/*
 * imap-session: the whole IMAP command set after login, on fds 0 and 1. Runs as the user, never as root. Started by the
 * monitor `imap` after login, or by anyone on a pipe, a terminal or a socket (`* PREAUTH`). Touches the user's
 * mailboxes and state folder only.
 *
 * Exit status: 0 ended by LOGOUT, 1 by the end of input or an error, 64 and up wrong usage or set-up (sysexits).
 */
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "handlers/imap/session.h"
#include "shared/base/macros.h"
#include "shared/serve/serve.h"

#define FILES_MOST 65536

/* RENAME holds the mailboxes below the one that it moves, two files each. */
static void allow_files(void)
{
    struct rlimit l;

    if (getrlimit(RLIMIT_NOFILE, &l) < 0)
        return;
    l.rlim_cur = l.rlim_max < FILES_MOST ? l.rlim_max : FILES_MOST;
    (void)setrlimit(RLIMIT_NOFILE, &l);
}

static void log_summary(const struct imap *s, int64_t started)
{
    const struct serve_count counts[] = {
        {"commands", s->commands},
        {"in", s->in.received},
        {"out", s->out.sent},
        {"seconds", (uint64_t)(clock_monotonic_ms() - started) / 1000},
        {NULL, 0},
    };

    serve_log_summary("imap_session", s->end, s->who, counts);
}

/* SIGTERM becomes readable instead of deadly: the client hears BYE between two commands (RFC 9051 3.4). -1: it stays
 * deadly, which loses nothing but that word. */
static int open_stop_fd(void)
{
    sigset_t set;
    int fd;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    fd = signalfd(-1, &set, SFD_CLOEXEC);
    if (fd >= 0)
        (void)sigprocmask(SIG_BLOCK, &set, NULL);
    return fd;
}

static int run(struct conf *conf, struct session *who)
{
    int64_t started = clock_monotonic_ms();
    _cleanup_close_ int stop = open_stop_fd();
    struct imap s;
    int r = imap_init(&s, conf, who, STDIN_FILENO, STDOUT_FILENO);

    allow_files();
    s.transport.stop_fd = stop;
    if (r >= 0)
        r = imap_run(&s);
    else
        s.end = "error";
    log_summary(&s, started);
    imap_finish(&s);
    return r;
}

int main(int argc, char **argv)
{
    static const struct serve_program imap = {.name = "imap-session", .refusal = "* BYE [UNAVAILABLE] ", .run = run};

    return serve_main(&imap, argc, argv);
}
