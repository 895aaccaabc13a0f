#include "shared/io/line.h"

#include <errno.h>

#include "shared/base/secret.h"

void line_reader_init(struct line_reader *r, struct transport *t, struct writer *w, enum line_ending ending, size_t max)
{
    /* Room for the longest line with its ending, for one block, and for what a login stage hands over. */
    *r = (struct line_reader){
        .transport = t, .writer = w, .ending = ending, .max = max, .in = BUF_INIT(max + 2 * LINE_BUFFER)};
}

/* Only what was written: wiping the untouched rest would make the kernel find memory for it first. */
static void wipe(struct line_reader *r)
{
    secret_wipe(r->in.data, r->high);
    r->high = 0;
    r->pos = 0;
}

void line_reader_finish(struct line_reader *r)
{
    wipe(r);
    buf_finish(&r->in);
}

struct str line_buffered(const struct line_reader *r)
{
    return str_sub(buf_str(&r->in), r->pos, r->in.len);
}

void line_consume(struct line_reader *r, size_t n)
{
    r->pos += n < r->in.len - r->pos ? n : r->in.len - r->pos;
}

void line_discard(struct line_reader *r)
{
    wipe(r);
    buf_clear(&r->in);
}

int line_unread(struct line_reader *r, struct str bytes)
{
    _cleanup_buf_ struct buf all = BUF_INIT(r->in.max);
    int e = buf_add_str(&all, bytes);

    if (e >= 0)
        e = buf_add_str(&all, line_buffered(r));
    if (e < 0)
        return e;

    wipe(r);

    struct buf old = r->in;

    r->in = all;
    all = old;
    r->high = r->in.len + 1;
    return 0;
}

/* Reads one block behind what is buffered. 0, -ENODATA at the end of input, or an error. */
static int fill(struct line_reader *r)
{
    if (r->is_eof)
        return -ENODATA;
    if (r->writer) {
        int e = writer_flush(r->writer);

        if (e < 0)
            return e;
    }
    if (r->pos > 0) {
        buf_consume(&r->in, r->pos);
        r->pos = 0;
    }

    size_t room = r->in.max - r->in.len < LINE_BUFFER ? r->in.max - r->in.len : LINE_BUFFER;
    int e = buf_reserve(&r->in, room);

    if (e < 0)
        return e;
    if (room == 0)
        return -ENOBUFS;

    ssize_t n = transport_read(r->transport, r->in.data + r->in.len, room);

    if (n < 0)
        return (int)n;
    if (n == 0) {
        r->is_eof = true;
        return -ENODATA;
    }
    r->in.len += (size_t)n;
    r->in.data[r->in.len] = '\0';
    if (r->high <= r->in.len)
        r->high = r->in.len + 1;
    r->received += (uint64_t)n;
    return 0;
}

/* Where the line ends in `s`, looking from byte `from`: index of its last byte before the ending, and what to consume.
 * False: not in there yet. */
static bool find_end(const struct line_reader *r, struct str s, size_t from, size_t *ret_len, size_t *ret_consume)
{
    while (from < s.len) {
        const char *lf = memchr(s.ptr + from, '\n', s.len - from);

        if (!lf)
            return false;

        size_t at = (size_t)(lf - s.ptr);
        bool has_cr = at > 0 && s.ptr[at - 1] == '\r';

        if (has_cr || r->ending == LINE_LENIENT) {
            *ret_len = at - (has_cr ? 1 : 0);
            *ret_consume = at + 1;
            return true;
        }
        from = at + 1;
    }
    return false;
}

struct str line_tail(const struct line_reader *r)
{
    return (struct str){r->tail, r->tail_len};
}

/* Keeps the end of what was kept and of `bytes` together. */
static void remember_tail(struct line_reader *r, struct str bytes)
{
    size_t kept = bytes.len < LINE_TAIL ? LINE_TAIL - bytes.len : 0;

    bytes = str_sub(bytes, bytes.len > LINE_TAIL ? bytes.len - LINE_TAIL : 0, bytes.len);
    kept = kept < r->tail_len ? kept : r->tail_len;
    memmove(r->tail, r->tail + r->tail_len - kept, kept);
    if (bytes.len)
        memcpy(r->tail + kept, bytes.ptr, bytes.len);
    r->tail_len = kept + bytes.len;
}

/* Drops the rest of a line that is too long; the byte before the buffer matters, since CR and LF may be split. */
static int discard_line(struct line_reader *r)
{
    r->tail_len = 0;
    for (;;) {
        struct str s = line_buffered(r);
        size_t len, consume;

        if (find_end(r, s, 0, &len, &consume)) {
            remember_tail(r, str_sub(s, 0, len));
            line_consume(r, consume);
            return -ENOBUFS;
        }
        s.len -= s.len > 0 && s.ptr[s.len - 1] == '\r';
        remember_tail(r, s);
        line_consume(r, s.len);

        int e = fill(r);

        if (e < 0)
            return e == -ENODATA ? -EPIPE : e;
    }
}

static bool is_clean(const struct line_reader *r, struct str line)
{
    if (str_has_nul(line))
        return false;
    return r->ending == LINE_LENIENT || (str_chr(line, '\r') < 0 && str_chr(line, '\n') < 0);
}

int line_read(struct line_reader *r, struct str *ret_line)
{
    size_t seen = 0; /* bytes already searched */

    for (;;) {
        struct str s = line_buffered(r);
        size_t len, consume;

        if (find_end(r, s, seen, &len, &consume)) {
            struct str line = str_sub(s, 0, len);

            line_consume(r, consume);
            if (len > r->max || !is_clean(r, line)) {
                r->tail_len = 0;
                remember_tail(r, line);
                return len > r->max ? -ENOBUFS : -EBADMSG;
            }
            *ret_line = line;
            return 0;
        }
        if (s.len > r->max + 1)
            return discard_line(r);
        seen = s.len > 0 ? s.len - 1 : 0;

        int e = fill(r);

        if (e == -ENODATA) {
            bool is_partial = line_buffered(r).len > 0;

            line_discard(r);
            return is_partial ? -EPIPE : -ENODATA;
        }
        if (e < 0)
            return e;
    }
}

int line_peek_more(struct line_reader *r, size_t want, struct str *ret_bytes)
{
    if (want > LINE_BUFFER)
        return -EINVAL;
    while (line_buffered(r).len < want) {
        int e = fill(r);

        if (e == -ENODATA && line_buffered(r).len > 0)
            break;
        if (e < 0)
            return e;
    }
    *ret_bytes = line_buffered(r);
    return 0;
}

int line_peek(struct line_reader *r, struct str *ret_bytes)
{
    return line_peek_more(r, 1, ret_bytes);
}

int line_wait(struct line_reader *r, int other_fd, int timeout_ms)
{
    if (line_buffered(r).len > 0)
        return TRANSPORT_INPUT;
    if (r->writer) {
        int e = writer_flush(r->writer);

        if (e < 0)
            return e;
    }
    return transport_wait(r->transport, other_fd, timeout_ms);
}
