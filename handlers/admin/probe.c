#include "handlers/admin/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "handlers/admin/child.h"
#include "shared/base/macros.h"

#define PROBE_TIMEOUT 20    /* seconds for one line: longer than PAM's delay after a wrong password */
#define PROBE_LINE    65536 /* of an answer */

static int connect_plain(const char *address, uint16_t port, int *ret)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char service[8];
    int r = 0;

    (void)snprintf(service, sizeof(service), "%u", (unsigned)port);
    if (getaddrinfo(address, service, &hints, &found) != 0)
        return -EINVAL;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        r = -errno;
    } else {
        const struct timeval limit = {.tv_sec = PROBE_TIMEOUT};

        /* connect(2) obeys the send timeout. */
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        if (connect(fd, found->ai_addr, found->ai_addrlen) < 0) {
            r = errno == EINPROGRESS ? -ETIMEDOUT : -errno;
            (void)close(fd);
        }
    }
    freeaddrinfo(found);
    if (r == 0)
        *ret = fd;
    return r;
}

static int connect_tls(struct probe *p, const char *address, uint16_t port, enum probe_tls tls, const char *protocol)
{
    char where[80];
    const char *argv[12] = {"openssl", "s_client", "-quiet", "-verify_quiet", "-connect", where, NULL};
    size_t n = 6;

    (void)snprintf(where, sizeof(where), strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, (unsigned)port);
    if (tls == PROBE_STARTTLS) {
        argv[n++] = "-starttls";
        argv[n++] = protocol;
    }
    return child_start(argv, -1, &p->child, &p->fd);
}

int probe_open(struct probe *p, const char *address, uint16_t port, enum probe_tls tls, const char *protocol)
{
    int fd = -1;
    int r;

    *p = (struct probe){.fd = -1};
    /* A connection that is only tried tells "nobody listens" from "TLS does not work". */
    r = connect_plain(address, port, &fd);
    if (r < 0)
        return r;
    if (tls == PROBE_PLAIN) {
        p->fd = fd;
    } else {
        (void)close(fd);
        r = connect_tls(p, address, port, tls, protocol);
        if (r < 0)
            return r;
    }
    transport_init(&p->transport, p->fd, p->fd, PROBE_TIMEOUT, PROBE_TIMEOUT);
    writer_init(&p->out, &p->transport);
    line_reader_init(&p->in, &p->transport, &p->out, LINE_LENIENT, PROBE_LINE);
    return 0;
}

void probe_close(struct probe *p)
{
    if (p->fd < 0)
        return;
    line_reader_finish(&p->in);
    writer_finish(&p->out);
    close_fd(&p->fd);
    child_stop(p->child);
    p->child = 0;
}

int probe_send(struct probe *p, const char *format, ...)
{
    _cleanup_(buf_wipe_finish) struct buf text = BUF_INIT(PROBE_LINE); /* may hold a password */
    va_list ap;
    int r;

    va_start(ap, format);
    r = buf_vprintf(&text, format, ap);
    va_end(ap);
    if (r < 0)
        return r;
    (void)writer_str(&p->out, buf_str(&text));
    return writer_text(&p->out, "\r\n");
}

int probe_line(struct probe *p, struct str *ret)
{
    struct str line;
    int r = line_read(&p->in, &line);

    if (r < 0)
        return r;
    (void)snprintf(p->last, sizeof(p->last), "%.*s", STR_ARG(str_sub(line, 0, sizeof(p->last) - 1)));
    *ret = line;
    return 0;
}
