#include "handlers/admin/probe.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "handlers/admin/child.h"
#include "shared/base/macros.h"

#define PROBE_TIMEOUT 20    /* seconds for one line: longer than PAM's delay after a wrong password */
#define PROBE_LINE    65536 /* of an answer */

/* An address, with the port in it, and the connection to it. */
static int connect_one(const struct addrinfo *to, uint16_t port, struct sockaddr_storage *ret_address, int *ret)
{
    const struct timeval limit = {.tv_sec = PROBE_TIMEOUT};
    struct sockaddr_storage address = {0};
    _cleanup_close_ int fd = -1;

    if (to->ai_addrlen > sizeof(address))
        return -EAFNOSUPPORT;
    memcpy(&address, to->ai_addr, to->ai_addrlen);
    if (to->ai_family == AF_INET)
        ((struct sockaddr_in *)&address)->sin_port = htons(port);
    else if (to->ai_family == AF_INET6)
        ((struct sockaddr_in6 *)&address)->sin6_port = htons(port);
    else
        return -EAFNOSUPPORT;
    fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* connect(2) obeys the send timeout. */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&address, to->ai_addrlen) < 0)
        return errno == EINPROGRESS ? -ETIMEDOUT : -errno;
    *ret_address = address;
    *ret = fd;
    fd = -1;
    return 0;
}

static int connect_plain(const struct addrinfo *to, uint16_t port, struct sockaddr_storage *ret_address, int *ret)
{
    int r = -EADDRNOTAVAIL;

    for (; to && r < 0; to = to->ai_next)
        r = connect_one(to, port, ret_address, ret);
    return r;
}

static int connect_tls(struct probe *p, const struct sockaddr_storage *to, enum probe_tls tls, const char *protocol)
{
    char host[64];
    char port[8];
    char where[80];
    const char *argv[12] = {"openssl", "s_client", "-quiet", "-verify_quiet", "-connect", where, NULL};
    size_t n = 6;

    if (getnameinfo((const struct sockaddr *)to, sizeof(*to), host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return -EINVAL;
    (void)snprintf(where, sizeof(where), strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    if (tls == PROBE_STARTTLS) {
        argv[n++] = "-starttls";
        argv[n++] = protocol;
    }
    return child_start(argv, -1, &p->child, &p->fd);
}

int probe_open(struct probe *p, const struct addrinfo *to, uint16_t port, enum probe_tls tls, const char *protocol)
{
    struct sockaddr_storage address;
    int fd = -1;
    int r;

    *p = (struct probe){.fd = -1};
    /* A connection that is only tried tells "nobody listens" from "TLS does not work". */
    r = connect_plain(to, port, &address, &fd);
    if (r < 0)
        return r;
    if (tls == PROBE_PLAIN) {
        p->fd = fd;
    } else {
        (void)close(fd);
        r = connect_tls(p, &address, tls, protocol);
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
