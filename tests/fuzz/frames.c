#include "tests/fuzz/frames.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/io/frame.h"

#define SPARE_FD 100

uint8_t fuzz_byte(struct str *in)
{
    uint8_t byte = in->len > 0 ? (uint8_t)in->ptr[0] : 0;

    *in = str_sub(*in, 1, in->len);
    return byte;
}

struct str fuzz_piece(struct str *in)
{
    size_t len = fuzz_byte(in);
    struct str piece = str_sub(*in, 0, len);

    *in = str_sub(*in, piece.len, in->len);
    return piece;
}

/* Small numbers are what most fields hold: above 127 a byte says how many follow. */
static uint32_t number(struct str *in)
{
    uint32_t n = fuzz_byte(in);

    if (n < 0x80)
        return n;
    for (unsigned more = n % 4 + 1, i = 0; i < more; i++)
        n = (i == 0 ? 0 : n << 8) | fuzz_byte(in);
    return n;
}

/* 255 repeats the piece to a length that is over every limit of a field but the frame's. */
static int put_string(struct str *in, struct frame *f)
{
    bool is_long = in->len > 0 && (uint8_t)in->ptr[0] == UINT8_MAX;
    struct str piece = fuzz_piece(in);
    _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_FRAME);

    if (!is_long)
        return frame_put_str(f, piece);
    for (size_t len = 0; piece.len > 0 && len < LIMIT_FRAME / 4; len += piece.len)
        if (buf_add_str(&text, piece) < 0)
            abort();
    return frame_put_str(f, buf_str(&text));
}

static int put_field(struct str *in, char kind, struct frame *f)
{
    switch (kind) {
    case 's':
        return put_string(in, f);
    case 'u':
        return frame_put_u32(f, number(in));
    default:
        return frame_put_u64(f, (uint64_t)number(in) << 32 | number(in));
    }
}

static bool send_raw(struct str packet, int socket)
{
    return packet.len == 0 || send(socket, packet.ptr, packet.len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

bool fuzz_send(struct str *in, const struct fuzz_shape *shapes, size_t count, int socket, int fd)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    uint8_t head = fuzz_byte(in);
    const struct fuzz_shape *shape = &shapes[(head & 0x1f) % count];
    bool is_odd = head & 0x40;
    int r = 0;

    if (in->len == 0)
        return false;
    if (head & 0x20)
        return send_raw(fuzz_piece(in), socket);
    frame_begin(&f, shape->type);
    for (const char *p = shape->fields; *p && r == 0; p++)
        r = put_field(in, *p, &f);
    if (is_odd && r == 0) /* one field too many */
        r = frame_put_u32(&f, number(in));
    return r == 0 && frame_send(socket, &f, head & 0x80 ? fd : -1) == 0;
}

int fuzz_place(int fd, int where)
{
    int saved = fcntl(where, F_GETFD) >= 0 ? fcntl(where, F_DUPFD_CLOEXEC, SPARE_FD) : -1;

    if (dup2(fd, where) < 0)
        abort();
    return saved;
}

void fuzz_put_back(int saved, int where)
{
    (void)close(where);
    if (saved >= 0 && dup2(saved, where) < 0)
        abort();
    if (saved >= 0)
        (void)close(saved);
}
