/*
 * struct buf: the one growing byte buffer, with a maximum given at birth. It never grows over `max`: the append that
 * would do so returns -ENOBUFS and adds nothing. The content is followed by a NUL that does not count, so that text
 * can be handed to C functions. Owned by whoever initialised it; BUF_INIT needs no init call.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/macros.h"
#include "shared/base/str.h"

struct buf {
    char *data; /* NULL until the first append */
    size_t len;
    size_t cap;
    size_t max;
};

#define BUF_INIT(maximum) ((struct buf){.max = (maximum)})
#define _cleanup_buf_ _cleanup_(buf_finish)

/* Frees the memory and leaves an empty buffer with the same maximum. */
void buf_finish(struct buf *b);

/* The same after wiping: for buffers that held secrets. Growth wipes the old block too when `secret` memory moves:
 * use buf_reserve() first so that it never moves. */
void buf_wipe_finish(struct buf *b);

/* Length 0, memory kept. */
void buf_clear(struct buf *b);

/* Room for `more` further bytes. 0, -ENOBUFS over the maximum, -ENOMEM. */
int buf_reserve(struct buf *b, size_t more);

/* Append. 0, -ENOBUFS, -ENOMEM; on failure the buffer is as before. */
int buf_add(struct buf *b, const void *data, size_t len);
int buf_add_str(struct buf *b, struct str s);
static inline int buf_add_byte(struct buf *b, char c)
{
    if (b->len + 1 >= b->cap || b->len >= b->max)
        return buf_add(b, &c, 1);
    b->data[b->len++] = c;
    b->data[b->len] = '\0';
    return 0;
}
int buf_add_u64(struct buf *b, uint64_t n); /* in decimal */
int buf_printf(struct buf *b, const char *format, ...) _printf_(2, 3);
int buf_vprintf(struct buf *b, const char *format, va_list ap) _printf_(2, 0);

/* Removes `n` bytes (at most all) from the front, or cuts to `len` bytes. */
void buf_consume(struct buf *b, size_t n);
void buf_truncate(struct buf *b, size_t len);

/* The content as a view, good until the next change. */
struct str buf_str(const struct buf *b);

/* The content as a C string, "" when empty. */
const char *buf_cstr(const struct buf *b);

#endif
