/*
 * The loop of `listen`. It reads nothing from any connection: it accepts, counts and starts, and the handler gets the
 * socket as fd 0 and 1. Runs as the user who started it, root for the standard ports.
 */
#include "handlers/listen/serve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"

#define ACCEPT_BURST   32  /* connections taken from one socket before the others and the children have their turn */
#define BACKOFF_MIN_MS 100 /* after EMFILE, ENFILE, ENOMEM, EAGAIN: first pause, then doubled */
#define BACKOFF_MAX_MS 5000
#define REFUSAL_LOG_MS 1000 /* a flood of refusals is one log line a second */

int serve_signals(struct serve *s)
{
    sigset_t set;
    int fd;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    s->signals = fd;
    return 0;
}

static void back_off(struct serve *s, const char *what, int err)
{
    s->backoff_ms = s->backoff_ms == 0 ? BACKOFF_MIN_MS : s->backoff_ms * 2;
    if (s->backoff_ms > BACKOFF_MAX_MS)
        s->backoff_ms = BACKOFF_MAX_MS;
    s->resume = clock_monotonic_ms() + s->backoff_ms;
    LOG_ERROR(LOG_ERR, "listen-out-of-resources", err, LOG_FC("during", what));
}

/* The child must have the default signal mask and SIGPIPE back; glibc makes it with vfork semantics, so the size of
 * this process does not matter. */
static int start(struct serve *s, int conn, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, defaults;
    int r;

    r = posix_spawn_file_actions_init(&actions);
    if (r != 0)
        return -r;
    r = posix_spawnattr_init(&attr);
    if (r != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return -r;
    }
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setsigdefault(&attr, &defaults);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    r = posix_spawn_file_actions_adddup2(&actions, conn, STDIN_FILENO);
    if (r == 0)
        r = posix_spawn_file_actions_adddup2(&actions, conn, STDOUT_FILENO);
    if (r == 0)
        r = posix_spawn(ret_pid, s->path, &actions, &attr, s->argv, s->envp);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attr);
    return -r;
}

static void refuse(struct serve *s, const struct sockaddr_storage *peer)
{
    int64_t now = clock_monotonic_ms();
    char host[INET6_ADDRSTRLEN] = "?", count[24];

    s->refused++;
    if (now - s->last_refusal < REFUSAL_LOG_MS && s->last_refusal != 0)
        return;
    if (peer->ss_family == AF_INET)
        (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)peer)->sin_addr, host, sizeof(host));
    else if (peer->ss_family == AF_INET6)
        (void)inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)peer)->sin6_addr, host, sizeof(host));
    (void)snprintf(count, sizeof(count), "%llu", (unsigned long long)s->refused);
    LOG_EVENT(LOG_WARNING, "listen-refused", LOG_FC("reason", "max-per-source"), LOG_FC("host", host),
              LOG_FC("refusals", count));
    s->last_refusal = now;
    s->refused = 0;
}

/* Takes one connection. 1: taken (or refused), 0: none waiting, or accepting pauses; negative: the socket is unusable.
 */
static int take_one(struct serve *s, int listener)
{
    struct sockaddr_storage peer = {0};
    socklen_t len = sizeof(peer);
    _cleanup_close_ int conn = accept4(listener, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
    struct source source;
    pid_t pid;
    int r;

    if (conn < 0) {
        switch (errno) {
        case EAGAIN:
            return 0;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
            back_off(s, "accept", errno);
            return 0;
        case EBADF:
        case EINVAL:
        case ENOTSOCK:
        case EOPNOTSUPP:
            return -errno;
        default: /* accept(2): network errors of the new connection, and EINTR */
            return 1;
        }
    }
    source = source_of((struct sockaddr *)&peer, len);
    if (s->max_per_source > 0 && children_from(&s->children, source) >= s->max_per_source) {
        refuse(s, &peer);
        return 1;
    }
    r = start(s, conn, &pid);
    s->last_busy = clock_monotonic_ms();
    if (r < 0) {
        back_off(s, "start", r); /* even a missing program: it may be about to be upgraded */
        return 0;
    }
    s->backoff_ms = 0;
    (void)children_add(&s->children, pid, source); /* there is room: serve_run() looked before */
    return 1;
}

static int take(struct serve *s, int listener)
{
    int r = 1;

    for (int i = 0; i < ACCEPT_BURST && r > 0 && s->children.count < s->children.max; i++)
        r = take_one(s, listener);
    return r < 0 ? r : 0;
}

static void reap(struct serve *s)
{
    pid_t pid;
    int status;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (children_remove(&s->children, pid) < 0)
            continue;
        s->last_busy = clock_monotonic_ms();
        if (WIFSIGNALED(status) && WTERMSIG(status) != SIGTERM && WTERMSIG(status) != SIGHUP)
            LOG_EVENT(LOG_ERR, "handler-died", LOG_FC("program", s->path),
                      LOG_FC("signal", strsignal(WTERMSIG(status))));
    }
}

/* True when a signal to end came. */
static bool read_signals(struct serve *s)
{
    struct signalfd_siginfo info[16];
    bool is_ending = false;
    ssize_t n;

    while ((n = read(s->signals, info, sizeof(info))) > 0)
        for (size_t i = 0; i < (size_t)n / sizeof(info[0]); i++)
            if (info[i].ssi_signo != SIGCHLD)
                is_ending = true;
    reap(s);
    return is_ending;
}

/* Milliseconds until something must be done without an event: accepting goes on, or the idle time is over. */
static int wait_ms(const struct serve *s, int64_t now)
{
    int64_t until = -1;

    if (s->resume > now)
        until = s->resume - now;
    if (s->idle > 0 && s->children.count == 0) {
        int64_t idle = s->last_busy + (int64_t)s->idle * 1000 - now;
        if (until < 0 || idle < until)
            until = idle;
    }
    if (until < 0)
        return -1;
    return until > 0 ? (int)until : 0;
}

int serve_run(struct serve *s)
{
    struct pollfd p[SOCKETS_MAX + 1];
    bool is_full = false;

    s->last_busy = clock_monotonic_ms();
    for (;;) {
        int64_t now = clock_monotonic_ms();
        bool is_accepting;
        int r;

        if (s->idle > 0 && s->children.count == 0 && now - s->last_busy >= (int64_t)s->idle * 1000)
            return 0;
        if ((s->children.count >= s->children.max) != is_full) {
            is_full = !is_full;
            if (is_full)
                LOG_EVENT(LOG_WARNING, "listen-full", LOG_FC("reason", "max"));
        }
        /* When full, new clients wait in the kernel's queue rather than being turned away. */
        is_accepting = !is_full && s->resume <= now;
        p[0] = (struct pollfd){.fd = s->signals, .events = POLLIN};
        for (size_t i = 0; i < s->sockets.count; i++)
            p[i + 1] = (struct pollfd){.fd = is_accepting ? s->sockets.fds[i] : -1, .events = POLLIN};
        r = poll(p, (nfds_t)s->sockets.count + 1, wait_ms(s, now));
        if (r < 0 && errno != EINTR)
            return -errno;
        if (r <= 0)
            continue;
        if (p[0].revents && read_signals(s))
            return 0;
        for (size_t i = 0; i < s->sockets.count; i++)
            if (p[i + 1].revents) {
                r = take(s, s->sockets.fds[i]);
                if (r < 0)
                    return r;
            }
    }
}
