/*
 * The message as bytes. Runs in sign, behind the sandbox.
 */
#include "handlers/sign/message.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/limits.h"
#include "shared/crypto/dkim.h"

#define PIECE_MAX  (LIMIT_HEADER + (128u << 10)) /* of what a content_sink gets at once: a header that was converted */
#define HEADER_MAX (LIMIT_HEADER + (128u << 10)) /* and what comes with its last piece */

/* ---- reading ---- */

/* Hands on what a content_sink gets with LF line ends: there every CR is one of a CRLF. */
static int to_lf(struct str bytes, content_sink *sink, void *context)
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

static int read_wire(const struct message *m, content_sink *sink, void *context)
{
    return m->is_converted ? convert_read(m->file, &m->convert, sink, context) : content_read(m->file, sink, context);
}

struct reading {
    struct message *message;
    struct dkim_body *body;
    bool is_body;
};

/* Where the header ends in the text collected so far, with its empty line; 0: not yet. */
static size_t header_end(struct str text, size_t from)
{
    ptrdiff_t at;

    if (text.len > 0 && text.ptr[0] == '\n')
        return 1;
    at = str_find(str_sub(text, from, text.len), STR("\n\n"));
    return at < 0 ? 0 : from + (size_t)at + 2;
}

static int collect(void *context, struct str bytes)
{
    struct reading *r = context;
    struct buf *header = &r->message->header;
    size_t from = header->len > 0 ? header->len - 1 : 0, end;
    int e;

    if (r->is_body)
        return dkim_body_feed(r->body, bytes);
    /* Only what the header may still have: a body goes past in constant memory. */
    e = buf_add_str(header, bytes);
    if (e < 0)
        return e == -ENOBUFS ? -EFBIG : e;
    end = header_end(buf_str(header), from);
    if (end == 0)
        return header->len > LIMIT_HEADER ? -EFBIG : 0;
    bytes = str_sub(bytes, bytes.len - (header->len - end), bytes.len);
    buf_truncate(header, end - 1);
    r->is_body = true;
    return dkim_body_feed(r->body, bytes);
}

static int collect_wire(void *context, struct str bytes)
{
    return to_lf(bytes, collect, context);
}

static int read_message(struct message *m)
{
    struct reading r = {.message = m};
    int e = dkim_body_new(&r.body);

    if (e == 0)
        e = read_wire(m, collect_wire, &r);
    if (e == 0)
        e = dkim_body_end(r.body, m->body_hash);
    dkim_body_free(r.body);
    return e;
}

static int plan(struct message *m)
{
    struct content_facts facts;
    int e = content_scan(m->file, &facts);

    if (e < 0 || !facts.has_8bit_body)
        return e;
    e = convert_plan(m->file, &m->convert);
    m->is_converted = e == 0 && !m->convert.breaks_seal;
    return e == -ENOTSUP ? 0 : e;
}

int message_load(int file, struct message *ret)
{
    int e;

    *ret = (struct message){.file = file, .header = BUF_INIT(HEADER_MAX)};
    e = plan(ret);
    return e < 0 ? e : read_message(ret);
}

void message_finish(struct message *m)
{
    convert_finish(&m->convert);
    buf_finish(&m->header);
}

/* ---- writing ---- */

int message_write_bytes(int out, struct str bytes)
{
    while (bytes.len > 0) {
        ssize_t n = write(out, bytes.ptr, bytes.len);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            bytes = str_sub(bytes, (size_t)n, bytes.len);
    }
    return 0;
}

struct writing {
    int out;
    struct buf held; /* one write(2) for many lines, PIECE_MAX */
};

static int hold(void *context, struct str bytes)
{
    struct writing *w = context;

    return buf_add_str(&w->held, bytes);
}

static int write_wire(void *context, struct str bytes)
{
    struct writing *w = context;
    int e = to_lf(bytes, hold, w);

    if (e == 0)
        e = message_write_bytes(w->out, buf_str(&w->held));
    buf_clear(&w->held);
    return e;
}

int message_write(const struct message *m, int out)
{
    struct writing w = {.out = out, .held = BUF_INIT(PIECE_MAX)};
    int e = read_wire(m, write_wire, &w);

    buf_finish(&w.held);
    return e;
}
