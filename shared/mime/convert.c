/*
 * Down-conversion in two passes: the first finds the parts that need it, the second rewrites them on the way.
 */
#include "shared/mime/convert.h"

#include <errno.h>
#include <stdlib.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/mime/decode.h"
#include "shared/mime/header.h"

#define PIECE 8192

enum edit_kind {
    EDIT_HEADER_7BIT,   /* header of a part whose label is 8bit or binary and whose content is neither any more */
    EDIT_HEADER_QP,     /* header of a part that becomes quoted-printable */
    EDIT_HEADER_BASE64, /* base64 */
    EDIT_HEADER_SAME,   /* header that stays */
    EDIT_QP,            /* body to encode */
    EDIT_BASE64,
    EDIT_ESCAPE, /* body in quoted-printable with 8-bit bytes in it: these alone are encoded */
};

/* ---- first pass ---- */

/* A leaf that has 8-bit bytes, or a multipart or message that has some in front of its first child: then it may have
 * none (structure.h), and they are content. */
struct found {
    const struct mime_part *part;
    uint64_t bytes, high;
};

struct survey {
    struct mime_parser *parser;
    struct found *found; /* in the order of the message */
    size_t count, cap;
    size_t next; /* second look: the first that has not been come by */
};

static int survey_body(void *context, const struct mime_part *part, struct str bytes)
{
    struct survey *s = context;
    uint64_t high = 0;

    if (part->kind != MIME_LEAF && part->child) /* epilogue, and what is between the parts */
        return 0;
    for (size_t i = 0; i < bytes.len; i++)
        high += (unsigned char)bytes.ptr[i] > 127;
    if (s->count == 0 || s->found[s->count - 1].part != part) {
        if (high == 0)
            return 0;
        if (s->count == s->cap) {
            size_t cap = s->cap ? 2 * s->cap : 8;
            struct found *more = reallocarray(s->found, cap, sizeof(*more)); /* at most LIMIT_MIME_PARTS */

            if (!more)
                return -ENOMEM;
            s->found = more;
            s->cap = cap;
        }
        s->found[s->count++] = (struct found){.part = part};
    }
    s->found[s->count - 1].bytes += bytes.len;
    s->found[s->count - 1].high += high;
    return 0;
}

static int survey_piece(void *context, struct str bytes)
{
    struct survey *s = context;

    return mime_parser_feed(s->parser, bytes);
}

/* Parts are asked about in the order in which they were found. */
static const struct found *find(struct survey *s, const struct mime_part *part)
{
    return s->next < s->count && s->found[s->next].part == part ? &s->found[s->next++] : NULL;
}

static int add_edit(struct convert *c, uint64_t from, uint64_t to, const struct mime_part *part, enum edit_kind kind)
{
    if (from < to)
        c->edits[c->count++] = (struct convert_edit){.from = from, .to = to, .part = part, .kind = (int)kind};
    return 0;
}

static bool is_labelled(const struct mime_part *p)
{
    return str_ieq(str_trim(p->encoding), STR("8bit")) || str_ieq(str_trim(p->encoding), STR("binary"));
}

/* Inside of what a signature of another kind covers (RFC 1847 2.1). */
static bool is_sealed(const struct mime_part *p)
{
    for (; p; p = p->parent)
        if (mime_part_is(p, "multipart", "signed"))
            return true;
    return false;
}

/* Decides on one part; its children come behind it. */
static int plan_part(struct convert *c, struct survey *s, const struct mime_part *p)
{
    const struct found *found = find(s, p);
    bool is_base64;

    if (found && p->kind != MIME_LEAF) {
        if (p->child && p->child->header == p->body) /* all of it is one part that was made up */
            return -ENOTSUP;
        found = NULL; /* a preamble */
    }
    if (!found)
        return add_edit(c, p->header, p->body, p,
                        is_labelled(p) && p->body - p->header <= LIMIT_HEADER && !is_sealed(p->parent)
                            ? EDIT_HEADER_7BIT
                            : EDIT_HEADER_SAME);
    if (p->header == p->body) /* a body of which the structure says nothing: there is no header to say it in */
        return -ENOTSUP;
    if (p->encoding_kind == MIME_ENCODING_QUOTED_PRINTABLE) {
        c->breaks_seal |= is_sealed(p->parent);
        (void)add_edit(c, p->header, p->body, p, EDIT_HEADER_SAME);
        return add_edit(c, p->body, p->end, p, EDIT_ESCAPE);
    }
    if (p->encoding_kind == MIME_ENCODING_BASE64) /* RFC 2045 6.8: other bytes are ignored; masked they still are */
        return add_edit(c, p->header, p->body, p, EDIT_HEADER_SAME);
    if (p->encoding_kind != MIME_ENCODING_NONE || p->body - p->header > LIMIT_HEADER)
        return -ENOTSUP;
    c->breaks_seal |= is_sealed(p->parent);
    is_base64 = !mime_part_is(p, "text", "*") || found->high > found->bytes / 3;
    (void)add_edit(c, p->header, p->body, p, is_base64 ? EDIT_HEADER_BASE64 : EDIT_HEADER_QP);
    return add_edit(c, p->body, p->end, p, is_base64 ? EDIT_BASE64 : EDIT_QP);
}

/* The tree in the order of the message, without recursion. */
static int plan_tree(struct convert *c, struct survey *s)
{
    const struct mime_part *p = c->tree.root;
    int r = 0;

    while (p && r == 0) {
        r = plan_part(c, s, p);
        if (p->child) {
            p = p->child;
            continue;
        }
        while (p && !p->next)
            p = p->parent;
        p = p ? p->next : NULL;
    }
    return r;
}

static int plan(int fd, struct survey *s, struct convert *c)
{
    struct mime_sink sink = {.context = s, .body = survey_body};
    int r = mime_parser_new(&s->parser);

    if (r < 0)
        return r;
    mime_parser_set_sink(s->parser, &sink);
    r = content_read(fd, survey_piece, s);
    if (r == 0)
        r = mime_parser_end(s->parser, &c->tree);
    if (r == 0) {
        c->edits = calloc(2 * (size_t)c->tree.part_count + 2, sizeof(*c->edits));
        r = c->edits ? plan_tree(c, s) : -ENOMEM;
    }
    return r;
}

int convert_plan(int fd, struct convert *ret)
{
    struct survey s = {0};
    struct convert c = {0};
    int r = plan(fd, &s, &c);

    mime_parser_free(s.parser);
    free(s.found);
    if (r < 0)
        convert_finish(&c);
    else
        *ret = c;
    return r;
}

void convert_finish(struct convert *c)
{
    mime_tree_finish(&c->tree);
    free(c->edits);
    *c = (struct convert){0};
}

/* ---- second pass ---- */

struct rewrite {
    const struct convert *plan;
    content_sink *sink;
    void *context;
    size_t next; /* edit that is running or comes next */
    bool is_open;
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

/* A header with a new label. */
static int write_header(struct rewrite *w, enum edit_kind kind, bool is_root)
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
    if (r == 0 && kind != EDIT_HEADER_7BIT && !has_type)
        r = buf_add_str(&w->out, STR("Content-Type: text/plain; charset=unknown-8bit\r\n"));
    if (r == 0)
        r = buf_printf(&w->out, "Content-Transfer-Encoding: %s\r\n\r\n",
                       kind == EDIT_HEADER_QP       ? "quoted-printable"
                       : kind == EDIT_HEADER_BASE64 ? "base64"
                                                    : "7bit");
    return r;
}

static int end_edit(struct rewrite *w)
{
    const struct convert_edit *e = &w->plan->edits[w->next++];
    int r = 0;

    w->is_open = false;
    if (e->kind <= EDIT_HEADER_BASE64)
        r = write_header(w, (enum edit_kind)e->kind, e->part == w->plan->tree.root);
    else if (e->kind == EDIT_QP || e->kind == EDIT_BASE64)
        r = encoder_end(&w->encoder, &w->out);
    buf_clear(&w->header);
    return r;
}

static void begin_edit(struct rewrite *w)
{
    const struct convert_edit *e = &w->plan->edits[w->next];

    w->is_open = true;
    if (e->kind == EDIT_QP)
        encoder_init(&w->encoder, MIME_ENCODING_QUOTED_PRINTABLE, true);
    else if (e->kind == EDIT_BASE64)
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

static int rewrite_bytes(struct rewrite *w, struct str bytes)
{
    int kind = w->is_open ? w->plan->edits[w->next].kind : -1;
    int r;

    if (kind == EDIT_HEADER_SAME)
        r = buf_add_str(&w->out, bytes);
    else if (kind == EDIT_QP || kind == EDIT_BASE64)
        r = encoder_feed(&w->encoder, bytes, &w->out);
    else if (kind == EDIT_ESCAPE)
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
    int r = content_read(fd, rewrite_piece, &w);

    if (r == 0 && w.is_open)
        r = end_edit(&w);
    if (r == 0)
        r = hand_on(&w);
    buf_finish(&w.header);
    buf_finish(&w.out);
    return r;
}
