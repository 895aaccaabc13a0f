#include "shared/base/buf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/secret.h"

#define BUF_FIRST 64 /* smallest block: most buffers hold a short line */

void buf_finish(struct buf *b)
{
    free(b->data);
    *b = BUF_INIT(b->max);
}

void buf_wipe_finish(struct buf *b)
{
    if (b->data)
        secret_wipe(b->data, b->cap);
    buf_finish(b);
}

void buf_clear(struct buf *b)
{
    buf_truncate(b, 0);
}

int buf_reserve(struct buf *b, size_t more)
{
    size_t need;

    if (more > b->max || b->len > b->max - more)
        return -ENOBUFS;
    if (__builtin_add_overflow(b->len, more + 1, &need))
        return -ENOBUFS;
    if (need <= b->cap)
        return 0;

    size_t cap = b->cap < BUF_FIRST ? BUF_FIRST : b->cap;

    while (cap < need)
        if (__builtin_mul_overflow(cap, (size_t)2, &cap))
            return -ENOBUFS;
    if (b->max < SIZE_MAX && cap > b->max + 1)
        cap = b->max + 1;

    char *data = realloc(b->data, cap);

    if (!data)
        return -ENOMEM;
    b->data = data;
    b->cap = cap;
    b->data[b->len] = '\0';
    return 0;
}

int buf_add(struct buf *b, const void *data, size_t len)
{
    /* Mostly there is room. What fits behind the content in memory is nothing that overflows when it is added. */
    bool has_room = len < b->cap - b->len && b->len + len <= b->max;
    int r = has_room ? 0 : buf_reserve(b, len);

    if (r < 0)
        return r;
    if (len > 0)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
    return 0;
}

int buf_add_str(struct buf *b, struct str s)
{
    return buf_add(b, s.ptr, s.len);
}

int buf_add_u64(struct buf *b, uint64_t n)
{
    char digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    return buf_add(b, digits + at, sizeof(digits) - at);
}

int buf_vprintf(struct buf *b, const char *format, va_list ap)
{
    (void)buf_reserve(b, 0); /* the first block, for most lines enough */

    size_t room = b->cap > b->len ? b->cap - b->len : 0;
    va_list again;
    int r = 0;

    va_copy(again, ap);

    /* Mostly it fits into what is there: then it is formatted once. */
    int n = vsnprintf(room > 0 ? b->data + b->len : NULL, room, format, ap);

    if (n < 0) {
        r = -EINVAL;
    } else if ((size_t)n >= room || (size_t)n > b->max - b->len) {
        r = buf_reserve(b, (size_t)n);
        if (r >= 0)
            (void)vsnprintf(b->data + b->len, (size_t)n + 1, format, again);
    }
    va_end(again);
    if (r >= 0)
        b->len += (size_t)n;
    else if (room > 0)
        b->data[b->len] = '\0';
    return r;
}

int buf_printf(struct buf *b, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);

    int r = buf_vprintf(b, format, ap);

    va_end(ap);
    return r;
}

void buf_consume(struct buf *b, size_t n)
{
    if (n > b->len)
        n = b->len;
    if (n == 0)
        return;
    memmove(b->data, b->data + n, b->len - n);
    buf_truncate(b, b->len - n);
}

void buf_truncate(struct buf *b, size_t len)
{
    if (len < b->len)
        b->len = len;
    if (b->data)
        b->data[b->len] = '\0';
}

struct str buf_str(const struct buf *b)
{
    return (struct str){b->data, b->len};
}

const char *buf_cstr(const struct buf *b)
{
    return b->data ? b->data : "";
}
