/*
 * PROXY protocol headers. Runs in the unprivileged front; what it reports is checked again by the monitor.
 */
#include "shared/login/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "shared/base/clock.h"
#include "shared/base/macros.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"

#define V1_MAX    107 /* "PROXY TCP6 " with two longest addresses and ports, CRLF */
#define V2_HEADER 16
#define V2_MAX    2048 /* with its TLVs */
#define POLL_MS   10   /* between two looks at a header that came in pieces */

static const char V2_SIGNATURE[12] = {'\r', '\n', '\r', '\n', '\0', '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

/* ---- version 1: a line ---- */

static int copy_address(struct str s, int family, char out[static LIMIT_ADDRESS])
{
    unsigned char raw[16];

    if (s.len == 0 || s.len >= LIMIT_ADDRESS || str_has_nul(s))
        return -EBADMSG;
    memcpy(out, s.ptr, s.len);
    out[s.len] = '\0';
    return inet_pton(family, out, raw) == 1 ? 0 : -EBADMSG;
}

static int parse_port(struct str s, uint16_t *ret)
{
    uint32_t port = 0;

    if (str_to_u32(s, &port) < 0 || port > UINT16_MAX)
        return -EBADMSG;
    *ret = (uint16_t)port;
    return 0;
}

/* "TCP4 192.0.2.1 198.51.100.1 56324 143": exactly one blank between the words. */
static int parse_v1_line(struct str line, struct proxy_header *h)
{
    struct str words[5];
    int family = AF_INET;
    size_t count = 0;
    bool more = true;

    if (str_eq(line, STR("UNKNOWN")) || str_starts(line, STR("UNKNOWN ")))
        return 0;
    while (more && count < ARRAY_SIZE(words))
        more = str_cut(&line, ' ', &words[count++]);
    if (more || count != ARRAY_SIZE(words))
        return -EBADMSG;
    if (str_eq(words[0], STR("TCP6")))
        family = AF_INET6;
    else if (!str_eq(words[0], STR("TCP4")))
        return -EBADMSG;
    if (copy_address(words[1], family, h->client) < 0 || copy_address(words[2], family, h->local) < 0 ||
        parse_port(words[3], &h->client_port) < 0 || parse_port(words[4], &h->local_port) < 0)
        return -EBADMSG;
    return 0;
}

static int parse_v1(struct str bytes, struct proxy_header *h)
{
    struct str head = str_sub(bytes, 0, V1_MAX);
    ptrdiff_t end = str_find(head, STR("\r\n"));

    if (end < 0)
        return head.len == V1_MAX ? -EBADMSG : 0;
    if (parse_v1_line(str_sub(head, 6, (size_t)end - 6), h) < 0)
        return -EBADMSG;
    return (int)end + 2;
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
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = 0;

    frame_begin(&f, FRAME_PROXY);
    if ((r = frame_put_str(&f, str_from(h->client))) < 0 || (r = frame_put_u32(&f, h->client_port)) < 0 ||
        (r = frame_put_str(&f, str_from(h->local))) < 0 || (r = frame_put_u32(&f, h->local_port)) < 0)
        return r;
    return frame_send(control, &f, -1);
}

/* Looks at what has arrived without taking it. >0: bytes. -EAGAIN: nothing yet. */
static ssize_t peek(int socket, char *out, size_t size)
{
    ssize_t n = recv(socket, out, size, MSG_PEEK | MSG_DONTWAIT);

    return n < 0 ? -errno : n == 0 ? -ENODATA : n;
}

int proxy_serve(int socket, int control, int timeout_ms)
{
    int64_t end = clock_monotonic_ms() + timeout_ms;
    struct proxy_header h = {0};
    char bytes[V2_MAX];

    while (clock_monotonic_ms() < end) {
        struct pollfd p = {.fd = socket, .events = POLLIN | POLLRDHUP};
        ssize_t n = 0;
        int length = 0;

        if (poll(&p, 1, (int)(end - clock_monotonic_ms())) < 0 && errno != EINTR)
            return -errno;
        n = peek(socket, bytes, sizeof(bytes));
        if (n < 0 && n != -EAGAIN && n != -EINTR)
            return (int)n;
        length = n > 0 ? proxy_parse((struct str){bytes, (size_t)n}, &h) : 0;
        if (length < 0)
            return length;
        if (length > 0)
            return recv(socket, bytes, (size_t)length, 0) == length ? report(control, &h) : -EIO;
        if (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) /* half a header, and nobody who could send the rest */
            return -ENODATA;
        (void)poll(NULL, 0, POLL_MS);
    }
    return -ETIMEDOUT;
}
