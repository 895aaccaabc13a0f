/*
 * PROXY protocol headers. Runs in the unprivileged front; what it reports is checked again by the monitor.
 */
#include "shared/login/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "shared/base/clock.h"
#include "shared/base/macros.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"
#include "shared/login/login.h"

#define V1_MAX    107 /* "PROXY TCP6 " with two longest addresses and ports, CRLF */
#define V2_HEADER 16
#define V2_MAX    2048 /* with its TLVs */
#define POLL_MS   10   /* between two looks at a header that came in pieces */

static const char V2_SIGNATURE[12] = {'\r', '\n', '\r', '\n', '\0', '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

/* ---- version 1: a line ---- */

/* "TCP4 192.0.2.1 198.51.100.1 56324 143": exactly one blank between the words. Whether addresses and ports are some is
 * the monitor's to check: it must, whatever is checked here. */
static int parse_v1_line(struct str line, struct proxy_header *h)
{
    struct str words[5];
    size_t count = 0;
    bool more = true;

    if (str_eq(line, STR("UNKNOWN")) || str_starts(line, STR("UNKNOWN ")))
        return 0;
    while (more && count < ARRAY_SIZE(words))
        more = str_cut(&line, ' ', &words[count++]);
    if (more || count != ARRAY_SIZE(words) || (!str_eq(words[0], STR("TCP4")) && !str_eq(words[0], STR("TCP6"))) ||
        words[1].len == 0 || str_to_u32(words[3], &h->client_port) < 0 || str_to_u32(words[4], &h->local_port) < 0)
        return -EBADMSG;
    (void)snprintf(h->client, sizeof(h->client), "%.*s", STR_ARG(words[1]));
    (void)snprintf(h->local, sizeof(h->local), "%.*s", STR_ARG(words[2]));
    return 0;
}

static int parse_v1(struct str bytes, struct proxy_header *h)
{
    struct str head = str_sub(bytes, 0, V1_MAX);
    ptrdiff_t end = str_chr(head, '\n');

    if (end < 0)
        return head.len == V1_MAX ? -EBADMSG : 0;
    if (head.ptr[end - 1] != '\r' || parse_v1_line(str_sub(head, 6, (size_t)end - 7), h) < 0)
        return -EBADMSG;
    return (int)end + 1;
}

/* ---- version 2: binary ---- */

static uint16_t get_u16(const char *p)
{
    uint16_t n = 0;

    memcpy(&n, p, sizeof(n));
    return ntohs(n);
}

static int parse_v2(struct str bytes, struct proxy_header *h)
{
    const char *p = bytes.ptr;
    size_t total = 0;
    unsigned version_command = 0;
    unsigned family = 0;
    size_t width = 0;

    if (bytes.len < V2_HEADER)
        return 0;
    version_command = (unsigned char)p[12];
    family = (unsigned char)p[13];
    total = V2_HEADER + (size_t)get_u16(p + 14);
    if (version_command >> 4 != 2 || (version_command & 15) > 1 || total > V2_MAX)
        return -EBADMSG;
    if (bytes.len < total)
        return 0;
    if ((version_command & 15) == 0 || family == 0) /* LOCAL, or an unspecified family */
        return (int)total;
    width = family == 0x11 ? 4 : family == 0x21 ? 16 : 0; /* stream sockets only */
    if (width == 0 || total < V2_HEADER + 2 * width + 4)
        return -EBADMSG;
    p += V2_HEADER;
    if (!inet_ntop(width == 4 ? AF_INET : AF_INET6, p, h->client, sizeof(h->client)) ||
        !inet_ntop(width == 4 ? AF_INET : AF_INET6, p + width, h->local, sizeof(h->local)))
        return -EBADMSG;
    h->client_port = get_u16(p + 2 * width);
    h->local_port = get_u16(p + 2 * width + 2);
    return (int)total;
}

static bool is_prefix(struct str bytes, struct str whole)
{
    size_t n = bytes.len < whole.len ? bytes.len : whole.len;

    return memcmp(bytes.ptr, whole.ptr, n) == 0;
}

int proxy_parse(struct str bytes, struct proxy_header *ret)
{
    struct str v2 = {V2_SIGNATURE, sizeof(V2_SIGNATURE)};
    struct proxy_header h = {0};
    int r = 0;

    if (bytes.len == 0)
        return 0;
    if (is_prefix(bytes, STR("PROXY ")))
        r = bytes.len < 6 ? 0 : parse_v1(bytes, &h);
    else if (is_prefix(bytes, v2))
        r = bytes.len < sizeof(V2_SIGNATURE) ? 0 : parse_v2(bytes, &h);
    else
        r = -EBADMSG;
    if (r > 0)
        *ret = h;
    return r;
}

/* ---- reading and reporting ---- */

static int report(int control, const struct proxy_header *h)
{
    return frame_say(control, FRAME_PROXY, -1, FRAME_STR(str_from(h->client)), FRAME_U32(h->client_port),
                     FRAME_STR(str_from(h->local)), FRAME_U32(h->local_port));
}

int proxy_serve(int socket, int control, int timeout_ms)
{
    int64_t end = clock_monotonic_ms() + timeout_ms, left;
    struct proxy_header h = {0};
    char bytes[V2_MAX];

    while ((left = end - clock_monotonic_ms()) > 0) {
        struct pollfd p = {.fd = socket, .events = POLLIN | POLLRDHUP};
        int r = transport_poll(&p, 1, (int)left);
        /* Looks at what has arrived without taking it. */
        ssize_t n = r < 0 ? 0 : recv(socket, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);

        if (r < 0 || n == 0 || (n < 0 && errno != EAGAIN))
            return r < 0 ? r : n == 0 ? -ENODATA : -errno;
        r = n > 0 ? proxy_parse((struct str){bytes, (size_t)n}, &h) : 0;
        if (r < 0) { /* the proxy's fault, not the monitor's */
            login_note(control, NOTE_WRONG_PROTOCOL, STR("no PROXY header"));
            return -EPROTO;
        }
        if (r > 0)
            return recv(socket, bytes, (size_t)r, 0) == r ? report(control, &h) : -EIO;
        if (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) /* half a header, and nobody who could send the rest */
            return -ENODATA;
        (void)poll(NULL, 0, POLL_MS);
    }
    return -ETIMEDOUT;
}
