/*
 * LF to CRLF, facts, dot stuffing.
 */
#include "shared/mime/content.h"

#include <errno.h>
#include <unistd.h>

#include "shared/base/macros.h"

#define PIECE (32u << 10)

struct lines {
    content_sink *sink;
    void *context;
    struct buf out; /* at most twice a piece */
    bool is_cr;     /* the last byte was a CR, and its CRLF has been written */
    bool is_inside; /* of a line */
};

static int add_line_end(struct lines *l)
{
    l->is_inside = false;
    return buf_add(&l->out, "\r\n", 2);
}

/* Writes a piece with its line ends made whole. */
static int convert(struct lines *l, struct str s)
{
    int r = 0;

    buf_clear(&l->out);
    while (s.len > 0 && r == 0) {
        size_t n = 0;

        if (s.ptr[0] == '\n' || s.ptr[0] == '\r') {
            bool is_second = s.ptr[0] == '\n' && l->is_cr;

            l->is_cr = s.ptr[0] == '\r';
            r = is_second ? 0 : add_line_end(l);
            s = str_sub(s, 1, s.len);
            continue;
        }
        while (n < s.len && s.ptr[n] != '\n' && s.ptr[n] != '\r')
            n++;
        r = buf_add(&l->out, s.ptr, n);
        l->is_inside = true;
        l->is_cr = false;
        s = str_sub(s, n, s.len);
    }
    return r;
}

int content_read_raw(int fd, content_sink *sink, void *context)
{
    _cleanup_free_ char *piece = malloc(PIECE);
    off_t at = 0;
    int r = piece ? 0 : -ENOMEM;

    while (r == 0) {
        ssize_t n = pread(fd, piece, PIECE, at);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            break;
        if (n < 0)
            continue;
        at += n;
        r = sink(context, (struct str){piece, (size_t)n});
    }
    return r;
}

static int pass_lines(void *context, struct str bytes)
{
    struct lines *l = context;
    int r = convert(l, bytes);

    return r == 0 && l->out.len > 0 ? l->sink(l->context, buf_str(&l->out)) : r;
}

int content_read(int fd, content_sink *sink, void *context)
{
    struct lines l = {.sink = sink, .context = context, .out = BUF_INIT(2 * PIECE + 2)};
    int r = content_read_raw(fd, pass_lines, &l);

    if (r == 0 && l.is_inside)
        r = sink(context, STR("\r\n"));
    buf_finish(&l.out);
    return r;
}

struct scan {
    struct content_facts facts;
    bool is_body;
    unsigned ends; /* CRLFCRLF: how much of it came last; the header's end is an empty line */
};

static int scan_piece(void *context, struct str bytes)
{
    struct scan *s = context;
    size_t i = 0;

    /* An empty header is one empty line: two of the four bytes are there from the beginning. */
    for (; i < bytes.len && !s->is_body; i++) {
        char c = bytes.ptr[i];

        s->facts.has_8bit_header |= (unsigned char)c > 127;
        s->ends = c == (s->ends % 2 == 0 ? '\r' : '\n') ? s->ends + 1 : 0;
        s->is_body = s->ends == 4;
        s->facts.header_size++;
    }
    s->facts.size += bytes.len;
    for (; i < bytes.len && !s->facts.has_8bit_body; i++)
        s->facts.has_8bit_body = (unsigned char)bytes.ptr[i] > 127;
    return 0;
}

int content_scan(int fd, struct content_facts *ret)
{
    struct scan s = {.ends = 2};
    int r = content_read(fd, scan_piece, &s);

    if (r == 0)
        *ret = s.facts;
    return r;
}

int content_to_lf(struct str bytes, content_sink *sink, void *context)
{
    int r = 0;

    while (bytes.len > 0 && r == 0) {
        ptrdiff_t cr = str_chr(bytes, '\r');
        size_t n = cr < 0 ? bytes.len : (size_t)cr;

        if (n > 0)
            r = sink(context, str_sub(bytes, 0, n));
        bytes = str_sub(bytes, n + (cr >= 0), bytes.len);
    }
    return r;
}

int content_write_bytes(int fd, struct str bytes)
{
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            bytes = str_sub(bytes, (size_t)n, bytes.len);
    }
    return 0;
}

static int hold(void *context, struct str bytes)
{
    return buf_add_str(context, bytes);
}

int content_write(void *context, struct str bytes)
{
    struct content_file *f = context;
    int r = content_to_lf(bytes, hold, &f->held);

    if (r == 0)
        r = content_write_bytes(f->fd, buf_str(&f->held));
    buf_clear(&f->held);
    return r;
}

int content_stuff(void *context, struct str bytes)
{
    struct content_stuffer *s = context;
    int r = 0;

    while (bytes.len > 0 && r == 0) {
        const char *end = memchr(bytes.ptr, '\n', bytes.len);
        size_t n = end ? (size_t)(end - bytes.ptr) + 1 : bytes.len;

        /* Whole stretches of lines that begin with no dot go out in one piece. */
        if (!s->is_inside && bytes.ptr[0] == '.')
            r = s->sink(s->context, STR("."));
        while (n < bytes.len && bytes.ptr[n - 1] == '\n' && bytes.ptr[n] != '.') {
            end = memchr(bytes.ptr + n, '\n', bytes.len - n);
            n = end ? (size_t)(end - bytes.ptr) + 1 : bytes.len;
        }
        s->is_inside = bytes.ptr[n - 1] != '\n';
        if (r == 0)
            r = s->sink(s->context, str_sub(bytes, 0, n));
        bytes = str_sub(bytes, n, bytes.len);
    }
    return r;
}
