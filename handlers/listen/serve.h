/*
 * The loop of `listen`: accept, count, start the handler.
 */
#ifndef LISTEN_SERVE_H
#define LISTEN_SERVE_H

#include "handlers/listen/children.h"
#include "handlers/listen/sockets.h"

struct serve {
    struct sockets sockets;
    struct children children;
    size_t max_per_source; /* 0: no limit */
    int idle;              /* seconds without a child after which it ends; 0: never */
    const char *path;      /* of the handler */
    char **argv;           /* its arguments, argv[0] first */
    char **envp;           /* its environment */
    int signals;           /* signalfd: SIGCHLD, SIGTERM, SIGINT, SIGHUP, all blocked */
    int backoff_ms;        /* wait after a lack of resources; 0: none */
    int64_t resume;        /* monotonic ms when accepting goes on */
    int64_t last_busy;     /* monotonic ms of the last start or end of a child */
    int64_t last_refusal;  /* monotonic ms of the last logged refusal */
    uint64_t refused;      /* refusals not logged yet */
};

/* Blocks the signals and makes s->signals. 0 or errno. */
int serve_signals(struct serve *s);

/* Runs until a signal to end or the idle time. 0, or a negative errno that makes going on useless. */
int serve_run(struct serve *s);

#endif
