#include "shared/io/transport.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/base/clock.h"

void transport_init(struct transport *t, int rfd, int wfd, int read_timeout, int write_timeout)
{
    *t = (struct transport){
        .rfd = rfd, .wfd = wfd, .read_timeout = read_timeout, .write_timeout = write_timeout, .stop_fd = -1};
}

/* Milliseconds that a wait may take: the smaller of `timeout_ms` (-1: for ever) and what is left to the deadline. */
static int time_left(const struct transport *t, int64_t timeout_ms)
{
    if (t->deadline > 0) {
        int64_t left = t->deadline - clock_monotonic_ms();

        if (left < 0)
            left = 0;
        if (timeout_ms < 0 || left < timeout_ms)
            timeout_ms = left;
    }
    return timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms;
}

int transport_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    int64_t end = timeout_ms < 0 ? 0 : clock_monotonic_ms() + timeout_ms;

    for (;;) {
        int r = poll(fds, count, timeout_ms);

        if (r >= 0)
            return r;
        if (errno != EINTR)
            return -errno;
        if (timeout_ms >= 0) {
            int64_t left = end - clock_monotonic_ms();

            timeout_ms = left < 0 ? 0 : (int)left;
        }
    }
}

/* A word that has been begun is written to its end: stop_fd is for input. */
static int wait_for(const struct transport *t, int fd, short events, int timeout_s)
{
    struct pollfd p[2] = {{.fd = fd, .events = events}, {.fd = t->stop_fd, .events = POLLIN}};
    nfds_t count = t->stop_fd >= 0 && events == POLLIN ? 2 : 1;
    int r = transport_poll(p, count, time_left(t, timeout_s > 0 ? (int64_t)timeout_s * 1000 : -1));

    if (r > 0 && p[1].revents)
        return -ECANCELED;
    return r < 0 ? r : r == 0 ? -ETIMEDOUT : 0;
}

struct transport transport_below(const struct transport *t)
{
    struct transport raw = *t;

    raw.filter = NULL;
    return raw;
}

ssize_t transport_read(struct transport *t, void *data, size_t len)
{
    if (t->filter)
        return t->filter->read(t, data, len);
    for (;;) {
        int r = t->is_ready ? 0 : wait_for(t, t->rfd, POLLIN, t->read_timeout);

        if (r < 0)
            return r;
        t->is_ready = false;

        ssize_t n = read(t->rfd, data, len);

        if (n >= 0 || errno == ECONNRESET)
            return n < 0 ? 0 : n;
        if (errno != EINTR && errno != EAGAIN)
            return -errno;
    }
}

/* One write that neither blocks on a peer that does not read nor raises SIGPIPE. */
static ssize_t write_some(int fd, const char *data, size_t len)
{
    ssize_t n = send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno == ENOTSOCK)
        n = write(fd, data, len);
    return n < 0 ? -errno : n;
}

int transport_write(struct transport *t, const void *data, size_t len)
{
    const char *at = data;

    if (t->filter)
        return t->filter->write(t, data, len);
    while (len > 0) {
        ssize_t n = write_some(t->wfd, at, len);

        if (n == -EAGAIN) {
            int r = wait_for(t, t->wfd, POLLOUT, t->write_timeout);

            if (r < 0)
                return r;
        } else if (n < 0 && n != -EINTR) {
            return n == -ECONNRESET ? -EPIPE : (int)n;
        } else if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

bool transport_is_broken(const struct transport *t)
{
    struct pollfd p = {.fd = t->wfd};

    return transport_poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP | POLLNVAL));
}

bool transport_is_stopped(const struct transport *t)
{
    struct pollfd p = {.fd = t->stop_fd, .events = POLLIN};

    return t->stop_fd >= 0 && transport_poll(&p, 1, 0) > 0;
}

int transport_wait(struct transport *t, int other_fd, int timeout_ms)
{
    struct pollfd fds[] = {
        {.fd = t->rfd, .events = POLLIN}, {.fd = other_fd, .events = POLLIN}, {.fd = t->stop_fd, .events = POLLIN}};

    if (t->filter && t->filter->has_input(t))
        return TRANSPORT_INPUT;

    int r = transport_poll(fds, 3, time_left(t, timeout_ms)); /* fds below 0 are passed over */

    if (r <= 0)
        return r;
    if (fds[2].revents)
        return -ECANCELED;
    t->is_ready = !t->filter && fds[0].revents;
    return (fds[0].revents ? TRANSPORT_INPUT : 0) | (fds[1].revents ? TRANSPORT_OTHER : 0);
}
