/*
 * The byte relay. Runs in `tls` after the handshake: own uid, empty root, no capabilities, seccomp. Both fds are
 * non-blocking. Each direction has one buffer, which must be empty before it is filled again, so a slow side slows the
 * other down instead of filling memory.
 */
#include "handlers/tls/relay.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "shared/base/clock.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"

#define TURNS     16   /* steps before poll() is asked again, so that both directions have their turn */
#define IDLE_MS   1000 /* quiet for so long: the memory goes back to the system */
#define LINGER_MS 2000 /* wait for the client's close after ours */

/* What an SSL call wants. 0: not now, try again when poll() says so. 1: its end. Negative: over. */
static int ssl_outcome(SSL *ssl, int result, bool *ret_want_read, bool *ret_want_write)
{
    switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ:
        *ret_want_read = true;
        return 0;
    case SSL_ERROR_WANT_WRITE:
        *ret_want_write = true;
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return 1;
    case SSL_ERROR_SYSCALL:
        ERR_clear_error();
        return errno == 0 || errno == ECONNRESET || errno == EPIPE ? 1 : -errno;
    default:
        ERR_clear_error();
        return -EPROTO;
    }
}

static bool is_empty(const struct relay_half *h)
{
    return h->start == h->end;
}

/* Each step returns 1 when it has moved something, 0 when it must wait, negative when all is over. */

static int network_read(struct relay *r)
{
    bool want_read = false;
    int n, outcome;

    if (r->in.is_eof || !is_empty(&r->in))
        return 0;
    r->read_wants_write = false;
    errno = 0;
    n = SSL_read(r->ssl, r->in.data, RELAY_BUFFER);
    if (n > 0) {
        r->in.start = 0;
        r->in.end = (size_t)n;
        return 1;
    }
    outcome = ssl_outcome(r->ssl, n, &want_read, &r->read_wants_write);
    if (outcome > 0)
        r->in.is_eof = true;
    return outcome;
}

static int inner_write(struct relay *r)
{
    ssize_t n;

    if (r->in.is_closed)
        return 0;
    if (is_empty(&r->in)) {
        if (!r->in.is_eof)
            return 0;
        (void)shutdown(r->inner, SHUT_WR);
        r->in.is_closed = true;
        return 1;
    }
    n = send(r->inner, r->in.data + r->in.start, r->in.end - r->in.start, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
        r->in.start += (size_t)n;
        return n > 0;
    }
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    /* The session is gone: nobody wants what the client sends. What the session sent is still delivered. */
    r->in.is_closed = r->in.is_eof = true;
    r->in.start = r->in.end = 0;
    return 1;
}

static int inner_read(struct relay *r)
{
    ssize_t n;

    if (r->out.is_eof || !is_empty(&r->out))
        return 0;
    n = recv(r->inner, r->out.data, RELAY_BUFFER, MSG_DONTWAIT);
    if (n > 0) {
        r->out.start = 0;
        r->out.end = (size_t)n;
        return 1;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    r->out.is_eof = true;
    return 1;
}

static int network_write(struct relay *r)
{
    bool want_write = false;
    int n, outcome;

    if (r->out.is_closed)
        return 0;
    r->write_wants_read = false;
    if (is_empty(&r->out)) {
        if (!r->out.is_eof)
            return 0;
        (void)SSL_shutdown(r->ssl);
        ERR_clear_error();
        (void)shutdown(r->network, SHUT_WR);
        r->out.is_closed = true;
        return 1;
    }
    errno = 0;
    n = SSL_write(r->ssl, r->out.data + r->out.start, (int)(r->out.end - r->out.start));
    if (n > 0) {
        r->out.start += (size_t)n;
        return 1;
    }
    outcome = ssl_outcome(r->ssl, n, &r->write_wants_read, &want_write);
    if (outcome > 0) {
        r->out.is_closed = r->out.is_eof = true;
        r->out.start = r->out.end = 0;
    }
    return outcome;
}

/* Moves what can be moved without waiting. */
static int pump(struct relay *r)
{
    int (*const steps[])(struct relay *) = {network_read, inner_write, inner_read, network_write};
    bool has_moved = true;

    for (int turn = 0; has_moved && turn < TURNS; turn++) {
        has_moved = false;
        for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
            int n = steps[i](r);
            if (n < 0)
                return n;
            has_moved |= n > 0;
        }
    }
    return has_moved;
}

static void interests(const struct relay *r, struct pollfd p[static 2])
{
    p[0] = (struct pollfd){.fd = r->network};
    p[1] = (struct pollfd){.fd = r->inner};
    if ((!r->in.is_eof && is_empty(&r->in) && !r->read_wants_write) || r->write_wants_read)
        p[0].events |= POLLIN;
    if ((!r->out.is_closed && !is_empty(&r->out) && !r->write_wants_read) || r->read_wants_write)
        p[0].events |= POLLOUT;
    if (!r->in.is_closed && !is_empty(&r->in))
        p[1].events |= POLLOUT;
    if (!r->out.is_eof && is_empty(&r->out))
        p[1].events |= POLLIN;
    /* Without an interest poll() would still report errors, again and again. */
    for (int i = 0; i < 2; i++)
        if (p[i].events == 0)
            p[i].fd = -1;
}

/* How long poll() may wait; -1: for ever. */
static int patience(const struct relay *r)
{
    if (r->out.is_closed)
        return LINGER_MS;
    if (!is_empty(&r->out))
        return TIMEOUT_WRITE * 1000;
    return r->is_used ? IDLE_MS : -1;
}

static void give_back(struct relay *r)
{
    if (is_empty(&r->in))
        (void)madvise(r->in.data, RELAY_BUFFER, MADV_DONTNEED);
    if (is_empty(&r->out))
        (void)madvise(r->out.data, RELAY_BUFFER, MADV_DONTNEED);
    (void)malloc_trim(0);
    r->is_used = false;
}

/* Nothing happened for as long as patience() said. 1: all is done, 0: go on. */
static int on_quiet(struct relay *r)
{
    if (r->out.is_closed)
        return 1;
    if (!is_empty(&r->out))
        return -ETIMEDOUT;
    if (r->is_used)
        give_back(r);
    return 0;
}

static int loop(struct relay *r)
{
    for (;;) {
        struct pollfd p[2];
        int moved = pump(r), n;

        if (moved < 0)
            return moved;
        /* The client's end alone is no end: the session may have more to say. When the session has ended and all of
         * it was sent, waiting for the client's close keeps a reset from eating the last reply. */
        if (r->out.is_closed && r->in.is_eof)
            return 0;
        interests(r, p);
        n = poll(p, 2, moved ? 0 : patience(r));
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            r->is_used = true;
        n = n == 0 && !moved ? on_quiet(r) : 0;
        if (n != 0)
            return n < 0 ? n : 0;
    }
}

int relay_run(SSL *ssl, int network, int inner)
{
    struct relay r = {.ssl = ssl, .network = network, .inner = inner};
    unsigned char *memory = mmap(NULL, 2 * RELAY_BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int result;

    if (memory == MAP_FAILED)
        return -ENOMEM;
    r.is_used = true;
    r.in.data = memory;
    r.out.data = memory + RELAY_BUFFER;
    result = loop(&r);
    (void)munmap(memory, 2 * RELAY_BUFFER);
    return result;
}
