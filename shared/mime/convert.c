/*
 * Conversion, the second pass: rewrites the parts that the first one chose, on their way.
 */
#include "shared/mime/convert.h"

#include <errno.h>
#include <stdlib.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/mime/decode.h"
#include "shared/mime/header.h"

#define PIECE 8192

struct rewrite {
    const struct convert *plan;
    content_sink *sink;
    void *context;
    size_t next; /* edit that is running or comes next */
    bool is_open;
    bool is_cr; /* the last octet outside of encoded bodies was a CR */
    uint64_t at;
    struct buf header; /* collected */
    struct buf out;
    struct encoder encoder;
};

static int hand_on(struct rewrite *w)
{
    int r = w->out.len > 0 ? w->sink(w->context, buf_str(&w->out)) : 0;

    buf_clear(&w->out);
    return r;
}

static const char *const LABELS[] = {
    [CONVERT_HEADER_7BIT] = "7bit",
    [CONVERT_HEADER_8BIT] = "8bit",
    [CONVERT_HEADER_QP] = "quoted-printable",
    [CONVERT_HEADER_BASE64] = "base64",
};

/* A header with a new label. */
static int write_header(struct rewrite *w, enum convert_kind kind, bool is_root)
{
    struct str header = buf_str(&w->header);
    struct header_iter i = header_iterate(header);
    struct header_field field;
    bool has_version = header_find(header, STR("MIME-Version"), &field);
    bool has_type = header_find(header, STR("Content-Type"), &field);
    int r = 0;

    while (r == 0 && header_next(&i, &field))
        if (!str_ieq(field.name, STR("Content-Transfer-Encoding")))
            r = buf_add_str(&w->out, field.raw);
    if (r == 0 && is_root && !has_version)
        r = buf_add_str(&w->out, STR("MIME-Version: 1.0\r\n"));
    /* RFC 1428 3: 8-bit text that never said what it is. */
    if (r == 0 && kind >= CONVERT_HEADER_QP && !has_type)
        r = buf_add_str(&w->out, STR("Content-Type: text/plain; charset=unknown-8bit\r\n"));
    return r < 0 ? r : buf_printf(&w->out, "Content-Transfer-Encoding: %s\r\n\r\n", LABELS[kind]);
}

static int end_edit(struct rewrite *w)
{
    const struct convert_edit *e = &w->plan->edits[w->next++];
    int r = 0;

    w->is_open = false;
    w->is_cr = false;
    if (e->kind <= CONVERT_HEADER_BASE64)
        r = write_header(w, e->kind, e->part == w->plan->tree.root);
    else if (e->kind == CONVERT_QP || e->kind == CONVERT_BASE64)
        r = encoder_end(&w->encoder, &w->out);
    buf_clear(&w->header);
    return r;
}

static void begin_edit(struct rewrite *w)
{
    const struct convert_edit *e = &w->plan->edits[w->next];

    w->is_open = true;
    if (e->kind == CONVERT_QP)
        encoder_init(&w->encoder, MIME_ENCODING_QUOTED_PRINTABLE, true);
    else if (e->kind == CONVERT_BASE64)
        encoder_init(&w->encoder, MIME_ENCODING_BASE64, false);
}

static int escape(struct rewrite *w, struct str bytes)
{
    int r = 0;

    for (size_t i = 0; i < bytes.len && r == 0; i++)
        r = (unsigned char)bytes.ptr[i] > 127 ? buf_printf(&w->out, "=%02X", (unsigned)(unsigned char)bytes.ptr[i])
                                              : buf_add_byte(&w->out, bytes.ptr[i]);
    return r;
}

/* Outside of all parts: preambles, epilogues, delimiters. */
static int mask(struct rewrite *w, struct str bytes)
{
    int r = 0;

    for (size_t i = 0; i < bytes.len && r == 0; i++)
        r = buf_add_byte(&w->out, (unsigned char)bytes.ptr[i] > 127 ? '?' : bytes.ptr[i]);
    return r;
}

/* What stays must be lines: a delimiter behind a bare LF, for one, is none to others (RFC 2046 5.1.1). */
static int check_lines(struct rewrite *w, struct str bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        char c = bytes.ptr[i];

        if (w->is_cr != (c == '\n') || c == '\0')
            return -EBADMSG;
        w->is_cr = c == '\r';
    }
    return 0;
}

static int rewrite_bytes(struct rewrite *w, struct str bytes)
{
    int kind = w->is_open ? (int)w->plan->edits[w->next].kind : -1;
    bool is_binary = w->plan->target == CONVERT_LINES;
    bool is_masked = w->plan->target == CONVERT_7BIT;
    int r;

    if (kind == CONVERT_QP || kind == CONVERT_BASE64)
        r = encoder_feed(&w->encoder, bytes, &w->out);
    else if (is_binary && check_lines(w, bytes) < 0)
        r = -EBADMSG;
    else if (kind == CONVERT_HEADER_SAME || (kind < 0 && !is_masked))
        r = buf_add_str(&w->out, bytes);
    else if (kind == CONVERT_ESCAPE)
        r = escape(w, bytes);
    else if (kind >= 0)
        r = buf_add_str(&w->header, bytes);
    else
        r = mask(w, bytes);
    return r < 0 ? r : hand_on(w);
}

static int rewrite_piece(void *context, struct str bytes)
{
    struct rewrite *w = context;
    int r = 0;

    while (bytes.len > 0 && r == 0) {
        const struct convert_edit *e = w->next < w->plan->count ? &w->plan->edits[w->next] : NULL;
        uint64_t end = !e ? UINT64_MAX : w->is_open ? e->to : e->from;
        size_t n = bytes.len < PIECE ? bytes.len : PIECE;

        if (end == w->at) {
            if (w->is_open)
                r = end_edit(w);
            else
                begin_edit(w);
            continue;
        }
        if (n > end - w->at)
            n = (size_t)(end - w->at);
        r = rewrite_bytes(w, str_sub(bytes, 0, n));
        w->at += n;
        bytes = str_sub(bytes, n, bytes.len);
    }
    return r;
}

int convert_read(int fd, const struct convert *c, content_sink *sink, void *context)
{
    struct rewrite w = {.plan = c,
                        .sink = sink,
                        .context = context,
                        .header = BUF_INIT(LIMIT_HEADER),
                        .out = BUF_INIT(LIMIT_HEADER + LIMIT_LINE_SMTP)};
    int r = c->target == CONVERT_LINES ? content_read_raw(fd, rewrite_piece, &w) : content_read(fd, rewrite_piece, &w);

    if (r == 0 && w.is_cr)
        r = -EBADMSG;
    if (r == 0 && w.is_open)
        r = end_edit(&w);
    if (r == 0)
        r = hand_on(&w);
    buf_finish(&w.header);
    buf_finish(&w.out);
    return r;
}
