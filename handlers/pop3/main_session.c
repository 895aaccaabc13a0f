/*
 * pop3-session: POP3 after login, on fds 0 and 1. Runs as the user, never as root. Started by the monitor `pop3` after
 * login, or by anyone on a pipe, a terminal or a socket. Touches the user's INBOX and state folder only.
 *
 * Exit status: 0 ended by QUIT with +OK, 1 by the end of input or an error, 64 and up wrong usage or set-up (sysexits).
 */
#include <unistd.h>

#include "handlers/pop3/session.h"
#include "shared/serve/serve.h"

static void log_summary(const struct pop3 *s, int64_t started)
{
    const struct serve_count counts[] = {
        {"commands", s->count.commands},
        {"retr", s->count.retr},
        {"retr_bytes", s->count.retr_bytes},
        {"top", s->count.top},
        {"deleted", s->count.removed},
        {"in", s->in.received},
        {"out", s->out.sent},
        {"seconds", (uint64_t)(clock_monotonic_ms() - started) / 1000},
        {NULL, 0},
    };

    serve_log_summary("pop3_session", s->end, s->who, counts);
}

static int run(struct conf *conf, struct session *who)
{
    int64_t started = clock_monotonic_ms();
    struct pop3 s;
    int r = pop3_init(&s, conf, who, STDIN_FILENO, STDOUT_FILENO);

    if (r >= 0)
        r = pop3_run(&s);
    log_summary(&s, started);
    pop3_finish(&s);
    return r;
}

int main(int argc, char **argv)
{
    static const struct serve_program pop3 = {.name = "pop3-session", .refusal = "-ERR [SYS/PERM] ", .run = run};

    return serve_main(&pop3, argc, argv);
}
