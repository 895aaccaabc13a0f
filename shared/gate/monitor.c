/*
 * The monitor's loop. Runs as root (or as the user who tries Pennypost out), reads frames from its children and nothing
 * else: never the client's socket.
 */
#include "shared/gate/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/gate/monitor_parts.h"
#include "shared/gate/sandbox.h"
#include "shared/io/frame_types.h"

#define DEADLINE_GRACE 5    /* seconds that the front has for its own words about the deadline */
#define FLUSH_TIMEOUT  5000 /* ms that T has to bring the last bytes to the client */
#define LEAVE_TIMEOUT  1000 /* ms that another child has to leave */

void monitor_init(struct monitor *m, const struct monitor_protocol *p, struct conf *conf, const struct start *start,
                  bool is_implicit_tls)
{
    *m = (struct monitor){.protocol = p,
                          .conf = conf,
                          .real = start->peer,
                          .peer = start->peer,
                          .front = CHAIN_CHILD_NONE,
                          .tls_child = CHAIN_CHILD_NONE,
                          .auth = CHAIN_CHILD_NONE,
                          .connection = -1,
                          .throttle = -1,
                          .is_implicit_tls = is_implicit_tls,
                          .held = FRAME_INIT,
                          .unread = BUF_INIT(LIMIT_UNREAD),
                          .left = BUF_INIT(LIMIT_NOTE),
                          .messages = BUF_INIT(LIMIT_FRAME)};
    if (p->deadline > 0)
        m->deadline = clock_monotonic_ms() + (p->deadline + DEADLINE_GRACE) * INT64_C(1000);
}

void monitor_finish(struct monitor *m)
{
    close_fd(&m->connection);
    close_fd(&m->throttle);
    frame_finish(&m->held);
    buf_finish(&m->messages);
    buf_wipe_finish(&m->unread);
    buf_finish(&m->left);
    if (m->user) {
        priv_user_finish(m->user);
        free(steal_ptr(m->user));
    }
}

/* Moves the socket away from fds 0 and 1: it must close when those who use it close it. */
static int take_connection(struct monitor *m)
{
    _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return -errno;
    m->connection = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 6);
    if (m->connection < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
        return -errno;
    return 0;
}

static int start_front(struct monitor *m)
{
    struct chain_spec spec = {CHAIN_SPEC(m->protocol->front), .has_control = true,
                              .account = m->protocol->front_account};

    memcpy(spec.arguments, m->protocol->front_arguments, sizeof(spec.arguments));
    spec.fds[0] = spec.fds[1] = m->connection;
    spec.fds[2] = sandbox_is_built() ? CHAIN_NULL : CHAIN_KEEP; /* our log is no place for it; sanitizers need theirs */
    spec.conf = m->protocol->front_takes_conf ? m->conf : NULL;
    return chain_spawn(&spec, &m->front);
}

int monitor_tell_front(struct monitor *m, const struct frame *f, int fd)
{
    int r = m->front.control < 0 ? 0 : frame_send(m->front.control, f, fd);

    return r == -EPIPE ? 0 : r;
}

/* What comes first: a proxy's header, a handshake, or the greeting. */
static int begin(struct monitor *m)
{
    bool is_proxied = m->real.kind == PEER_INET && peer_in_networks(m->real.address, str_from(m->conf->networks_proxy));
    int r;

    if (!is_proxied && !m->is_implicit_tls)
        monitor_auth_ahead(m); /* what takes longest first */
    r = take_connection(m);
    if (r == 0 && !is_proxied)
        r = m->is_implicit_tls ? monitor_start_tls(m) : monitor_greet(m);
    if (r == 0)
        r = start_front(m);
    if (r < 0)
        return r;
    if (is_proxied) {
        _cleanup_frame_ struct frame f = FRAME_INIT;

        frame_begin(&f, FRAME_PROXY_WANTED);
        m->phase = MONITOR_PROXY;
        return monitor_tell_front(m, &f, -1);
    }
    if (m->is_implicit_tls)
        return 0;
    return monitor_send_facts(m);
}

/* ---- the parts ---- */

static int violation(const struct monitor *m, const char *part, const struct frame *f, int error)
{
    char type[16];
    char phase[16];

    (void)snprintf(type, sizeof(type), "%u", f->type);
    (void)snprintf(phase, sizeof(phase), "%d", (int)m->phase);
    LOG_ERROR(LOG_ERR, "protocol violation", error, LOG_FC("part", part), LOG_FC("frame", type), LOG_FC("phase", phase),
              LOG_FC("service", m->protocol->service), LOG_FC("host", m->peer.address));
    return error == -EPERM || error == -ENOENT ? -EPROTO : error;
}

/* A part's socket is at its end. Reaps it and says so when it did not leave by itself. */
static void reap(struct monitor *m, struct chain_child *child, const char *part, int timeout_ms)
{
    char text[24];
    int status = 0;

    if (child->pid == 0)
        return;
    status = chain_end(child, timeout_ms);
    /* EX_PROTOCOL: T's word for a client that failed the handshake, which it has told already. */
    if (status == 0 || (status > 0 && WIFEXITED(status) && WEXITSTATUS(status) == EX_PROTOCOL))
        return;
    chain_status_text(status < 0 ? 0 : status, text);
    LOG_EVENT(LOG_ERR, "part failed", LOG_FC("part", part), LOG_FC("status", status < 0 ? "lost" : text),
              LOG_FC("service", m->protocol->service), LOG_FC("host", m->peer.address));
    m->error = -ECHILD;
}

static int serve_front(struct monitor *m)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = frame_recv(m->front.control, &f, 0);

    if (r == -ETIMEDOUT)
        return 0;
    if (r == -ENODATA) {
        /* A client that does not wait for the answer: its attempt counts all the same. */
        close_fd(&m->front.control);
        if (m->phase != MONITOR_AUTH)
            m->phase = MONITOR_END;
        else if (m->awaits_client)
            monitor_auth_abandon(m);
        return 0;
    }
    if (r < 0)
        return violation(m, m->protocol->front, &f, r);
    if (f.fd >= 0)
        return violation(m, m->protocol->front, &f, -EBADMSG); /* no frame to us carries one */
    r = permit_run(MONITOR_FRONT, MONITOR_FRONT_ROWS, &m->front_use, m->phase, m, &f);
    if (r == -ENOENT)
        r = permit_run(m->protocol->rows, m->protocol->row_count, &m->own_use, m->phase, m, &f);
    return r < 0 ? violation(m, m->protocol->front, &f, r) : 0;
}

static int serve_tls(struct monitor *m)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = frame_recv(m->tls_child.control, &f, 0);

    if (r == -ETIMEDOUT)
        return 0;
    if (r == -ENODATA) {
        /* The front sees the end of its input too and leaves by itself, saying what it has to say about it. Before the
         * handshake is done it still waits for us. */
        close_fd(&m->tls_child.control);
        if (m->phase == MONITOR_HANDSHAKE)
            m->phase = MONITOR_END;
        return 0;
    }
    if (r == 0)
        r = f.fd >= 0 ? -EBADMSG : permit_run(MONITOR_TLS, MONITOR_TLS_ROWS, &m->tls_use, m->phase, m, &f);
    return r < 0 ? violation(m, "tls", &f, r) : 0;
}

static int serve_auth(struct monitor *m)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = frame_recv(m->auth.control, &f, 0);

    if (r == -ETIMEDOUT)
        return 0;
    if (r == -ENODATA && m->phase == MONITOR_AUTH)
        return monitor_auth_lost(m, "auth ended without an answer");
    if (r == -ENODATA) {
        m->ahead_until = 0;
        reap(m, &m->auth, "auth", monitor_auth_leave(m));
        return 0;
    }
    if (r == 0)
        r = f.fd >= 0 ? -EBADMSG : permit_run(MONITOR_AUTH_ROWS, MONITOR_AUTH_ROW_COUNT, &m->auth_use, m->phase, m, &f);
    return r < 0 ? violation(m, "auth", &f, r) : 0;
}

/* ---- the loop ---- */

/* Milliseconds to the next thing that happens by itself. */
static int time_to_wait(const struct monitor *m)
{
    const int64_t times[] = {m->deadline, m->phase == MONITOR_AUTH ? m->auth_deadline : 0, m->release, m->ahead_until};
    int64_t now = clock_monotonic_ms();
    int64_t next = INT64_MAX;

    for (size_t i = 0; i < ARRAY_SIZE(times); i++)
        if (times[i] > 0 && times[i] < next)
            next = times[i];
    if (next == INT64_MAX)
        return -1;
    return next <= now ? 0 : (int)(next - now < INT32_MAX ? next - now : INT32_MAX);
}

static int check_clock(struct monitor *m)
{
    int64_t now = clock_monotonic_ms();

    if (m->release > 0 && now >= m->release)
        return monitor_auth_release(m);
    if (m->ahead_until > 0 && now >= m->ahead_until)
        monitor_auth_dismiss(m);
    if (m->phase == MONITOR_AUTH && now >= m->auth_deadline)
        return monitor_auth_lost(m, "auth took too long");
    if (m->deadline > 0 && now >= m->deadline) {
        LOG_EVENT(LOG_INFO, "connection timed out", LOG_FC("service", m->protocol->service),
                  LOG_FC("host", m->peer.address));
        m->phase = MONITOR_END;
    }
    return 0;
}

static int step(struct monitor *m)
{
    struct pollfd fds[] = {{.fd = m->tls_child.control, .events = POLLIN},
                           {.fd = m->auth.control, .events = POLLIN},
                           {.fd = m->front.control, .events = POLLIN}};
    static int (*const serve[])(struct monitor *) = {serve_tls, serve_auth, serve_front};
    int n = poll(fds, ARRAY_SIZE(fds), time_to_wait(m));
    int r = 0;

    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    /* One frame at a time: each may start, end or replace the parts behind the other fds. */
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        if (fds[i].revents) {
            r = serve[i](m);
            break;
        }
    return r == 0 ? check_clock(m) : r;
}

/* Ends what is still ours. The order lets the last words of the front reach the client through T. */
static void close_down(struct monitor *m, bool is_orderly)
{
    close_fd(&m->connection);
    if (m->ahead_until > 0)
        monitor_auth_dismiss(m);
    reap(m, &m->auth, "auth", m->auth.control < 0 || m->user || m->conf->pam_session ? monitor_auth_leave(m) : 0);
    reap(m, &m->front, m->protocol->front, is_orderly ? LEAVE_TIMEOUT : 0);
    reap(m, &m->tls_child, "tls", is_orderly ? FLUSH_TIMEOUT : 0);
}

int monitor_run(struct monitor *m)
{
    int r = begin(m);

    if (r < 0)
        LOG_ERROR(LOG_ERR, "cannot start", r, LOG_FC("service", m->protocol->service), LOG_FC("host", m->peer.address));
    while (r == 0 && m->phase != MONITOR_END)
        r = step(m);
    if (r == 0 && m->protocol->leaving)
        m->protocol->leaving(m);
    close_down(m, r == 0);
    return r < 0 ? r : m->error;
}
