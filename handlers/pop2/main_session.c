/*
 * pop2-session: POP2 after login, on fds 0 and 1. Runs as the user, never as root. Started by the monitor `pop2` after
 * login, or by anyone on a pipe, a terminal or a socket. Touches the user's INBOX, mail folders and state folder only.
 *
 * Exit status: 0 ended by QUIT, 1 by the end of input or an error, 64 and up wrong usage or set-up (sysexits).
 */
#include <unistd.h>

#include "handlers/pop2/session.h"
#include "shared/serve/serve.h"

static void log_summary(const struct pop2 *s, int64_t started)
{
    const struct serve_count counts[] = {
        {"commands", s->count.commands},
        {"retr", s->count.retr},
        {"retr_bytes", s->count.retr_bytes},
        {"folders", s->count.folders},
        {"deleted", s->count.removed},
        {"in", s->in.received},
        {"out", s->out.sent},
        {"seconds", (uint64_t)(clock_monotonic_ms() - started) / 1000},
        {NULL, 0},
    };

    serve_log_summary("pop2_session", s->end, s->who, counts);
}

static int run(struct conf *conf, struct session *who)
{
    int64_t started = clock_monotonic_ms();
    struct pop2 s;
    int r = pop2_init(&s, conf, who, STDIN_FILENO, STDOUT_FILENO);

    if (r >= 0)
        r = pop2_run(&s);
    log_summary(&s, started);
    pop2_finish(&s);
    return r;
}

int main(int argc, char **argv)
{
    static const struct serve_program pop2 = {.name = "pop2-session", .refusal = "- ", .run = run};

    return serve_main(&pop2, argc, argv);
}
