#include "shared/io/frame.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "shared/base/limits.h"
#include "shared/base/secret.h"
#include "shared/io/transport.h"

#define FIRST_ROOM 255 /* bytes, and a NUL: enough for most that is put together field by field */

struct frame_header {
    uint16_t type;
    uint16_t zero;
    uint32_t length;
};

void frame_finish(struct frame *f)
{
    close_fd(&f->fd);
    buf_wipe_finish(&f->payload);
    f->payload.max = LIMIT_FRAME;
    f->type = 0;
}

int frame_pair(int ret_fds[2])
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

void frame_begin(struct frame *f, uint16_t type)
{
    frame_finish(f);
    f->type = type;
}

/* Grows by hand, so that no unwiped copy of a password stays behind as realloc() would leave it. */
static int add(struct frame *f, const void *data, size_t len)
{
    size_t need = f->payload.len + len;

    if (len > LIMIT_FRAME || need > LIMIT_FRAME)
        return -ENOBUFS;
    if (need + 1 > f->payload.cap) {
        struct buf larger = BUF_INIT(LIMIT_FRAME);
        size_t room = need < FIRST_ROOM ? FIRST_ROOM : need * 2;
        int r = buf_reserve(&larger, room < LIMIT_FRAME ? room : LIMIT_FRAME);

        if (r >= 0)
            r = buf_add(&larger, f->payload.data, f->payload.len);
        if (r < 0)
            return r;
        buf_wipe_finish(&f->payload);
        f->payload = larger;
    }
    return buf_add(&f->payload, data, len);
}

int frame_put_u32(struct frame *f, uint32_t n)
{
    return add(f, &n, sizeof(n));
}

int frame_put_u64(struct frame *f, uint64_t n)
{
    return add(f, &n, sizeof(n));
}

int frame_put_str(struct frame *f, struct str s)
{
    if (s.len > LIMIT_FRAME)
        return -ENOBUFS;

    int r = frame_put_u32(f, (uint32_t)s.len);

    return r < 0 ? r : add(f, s.ptr, s.len);
}

int frame_send(int sock, const struct frame *f, int fd)
{
    struct frame_header header = {.type = f->type, .length = (uint32_t)f->payload.len};
    struct iovec parts[2] = {{&header, sizeof(header)}, {f->payload.data, f->payload.len}};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    if (fd >= 0) {
        message.msg_control = control.space;
        message.msg_controllen = sizeof(control.space);

        struct cmsghdr *c = CMSG_FIRSTHDR(&message);

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
    }
    while (sendmsg(sock, &message, MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
    return 0;
}

int frame_send_fields(int sock, uint16_t type, int fd, const struct frame_field *fields, size_t count)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    size_t total = 0;
    int r = 0;

    for (size_t i = 0; i < count; i++)
        if (__builtin_add_overflow(total, sizeof(uint32_t) + fields[i].text.len, &total))
            return -ENOBUFS;
    f.type = type;
    r = buf_reserve(&f.payload, total);
    for (size_t i = 0; r == 0 && i < count; i++) {
        uint32_t head = fields[i].is_number ? fields[i].number : (uint32_t)fields[i].text.len;

        r = buf_add(&f.payload, &head, sizeof(head));
        if (r == 0)
            r = buf_add_str(&f.payload, fields[i].text);
    }
    return r < 0 ? r : frame_send(sock, &f, fd);
}

/* Takes the fd out of a received message, into *ret_fd. There is room for one: of more the kernel says that it cut some
 * off, and has closed them. */
static int take_fd(struct msghdr *message, int *ret_fd)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(message);
    int fd = -1;

    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(fd)))
        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    if (message->msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        close_fd(&fd);
        return -EBADMSG;
    }
    *ret_fd = fd;
    return 0;
}

static int receive(int sock, struct frame *f, size_t length, int flags)
{
    struct frame_header header;
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    int fd = -1;
    size_t payload = length > sizeof(header) ? length - sizeof(header) : 0;
    int r = buf_reserve(&f->payload, payload);

    if (r < 0)
        return r;

    struct iovec parts[2] = {{&header, sizeof(header)}, {f->payload.data, payload}};
    struct msghdr message = {
        .msg_iov = parts, .msg_iovlen = 2, .msg_control = control.space, .msg_controllen = CMSG_LEN(sizeof(int))};
    ssize_t n = recvmsg(sock, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT | flags);

    if (n < 0)
        return -errno;
    r = take_fd(&message, &fd);
    if (r < 0)
        return r;
    if ((size_t)n != length || (size_t)n < sizeof(header) || header.zero != 0 || header.length != payload) {
        close_fd(&fd);
        return -EBADMSG;
    }
    f->type = header.type;
    f->payload.len = payload;
    f->payload.data[payload] = '\0';
    f->fd = fd;
    return 0;
}

static int receive_next(int sock, struct frame *f, int timeout_ms, int flags)
{
    struct pollfd p = {.fd = sock, .events = POLLIN};
    ssize_t length;
    char byte;
    int r;

    frame_finish(f);
    r = timeout_ms <= 0 ? 1 : transport_poll(&p, 1, timeout_ms);
    if (r <= 0)
        return r < 0 ? r : -ETIMEDOUT;
    /* Without taking it, so that the buffer is made as large as it is and no larger. */
    do
        length = recv(sock, &byte, 1, MSG_PEEK | MSG_TRUNC | (timeout_ms < 0 ? 0 : MSG_DONTWAIT));
    while (length < 0 && errno == EINTR);
    if (length < 0 && errno != ECONNRESET)
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    if (length <= 0)
        return -ENODATA;
    if ((size_t)length > sizeof(struct frame_header) + LIMIT_FRAME)
        return -EBADMSG;
    r = receive(sock, f, (size_t)length, flags);
    if (r < 0)
        frame_finish(f);
    return r;
}

int frame_recv(int sock, struct frame *f, int timeout_ms)
{
    return receive_next(sock, f, timeout_ms, 0);
}

int frame_peek(int sock, struct frame *f, int timeout_ms)
{
    return receive_next(sock, f, timeout_ms, MSG_PEEK);
}

struct frame_reader frame_read(const struct frame *f)
{
    return (struct frame_reader){buf_str(&f->payload)};
}

static int get(struct frame_reader *r, void *to, size_t len)
{
    if (r->rest.len < len)
        return -EBADMSG;
    memcpy(to, r->rest.ptr, len);
    r->rest = str_sub(r->rest, len, r->rest.len);
    return 0;
}

int frame_get_u32(struct frame_reader *r, uint32_t *ret)
{
    return get(r, ret, sizeof(*ret));
}

int frame_get_u64(struct frame_reader *r, uint64_t *ret)
{
    return get(r, ret, sizeof(*ret));
}

int frame_get_str(struct frame_reader *r, size_t max, struct str *ret)
{
    struct frame_reader at = *r;
    uint32_t len;

    if (frame_get_u32(&at, &len) < 0 || len > max || len > at.rest.len)
        return -EBADMSG;
    *ret = str_sub(at.rest, 0, len);
    r->rest = str_sub(at.rest, len, at.rest.len);
    return 0;
}

int frame_end(const struct frame_reader *r)
{
    return r->rest.len == 0 ? 0 : -EBADMSG;
}

/* A string of `len` bytes, which are there, into its slot. */
static int put_in_slot(const struct frame_slot *slot, struct str s)
{
    if (slot->view) {
        *slot->view = s;
        return 0;
    }
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] < ' ' || s.ptr[i] == 0x7f)
            return -EBADMSG;
    memcpy(slot->text, s.len > 0 ? s.ptr : "", s.len);
    slot->text[s.len] = '\0';
    return 0;
}

int frame_take_fields(const struct frame *f, const struct frame_slot *slots, size_t count)
{
    struct str rest = buf_str(&f->payload);

    for (const struct frame_slot *slot = slots; slot < slots + count; slot++) {
        uint32_t n;

        if (rest.len < sizeof(n))
            return -EBADMSG;
        memcpy(&n, rest.ptr, sizeof(n));
        rest = str_sub(rest, sizeof(n), SIZE_MAX);
        if (n > slot->max || (!slot->number && !slot->flag && n > rest.len))
            return -EBADMSG;
        if (slot->number) {
            *slot->number = n;
        } else if (slot->flag) {
            *slot->flag = n == 1;
        } else {
            if (put_in_slot(slot, str_sub(rest, 0, n)) < 0)
                return -EBADMSG;
            rest = str_sub(rest, n, SIZE_MAX);
        }
    }
    return rest.len == 0 ? 0 : -EBADMSG;
}
