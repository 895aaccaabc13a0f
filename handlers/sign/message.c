/*
 * The message as bytes. Runs in sign, behind the sandbox.
 */
#include "handlers/sign/message.h"

#include <errno.h>

#include "shared/base/limits.h"
#include "shared/crypto/dkim.h"

#define HEADER_MAX (LIMIT_HEADER + (128u << 10)) /* and what comes with its last piece */

/* ---- reading ---- */

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
    return content_to_lf(bytes, collect, context);
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
    e = convert_plan(m->file, CONVERT_7BIT, &m->convert);
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

int message_write(const struct message *m, int out)
{
    struct content_file file = {.fd = out, .held = BUF_INIT(CONTENT_PIECE)};
    int e = read_wire(m, content_write, &file);

    buf_finish(&file.held);
    return e;
}
