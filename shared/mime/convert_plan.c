/*
 * Conversion, the first pass: finds the parts that need it and decides what becomes of each.
 */
#include "shared/mime/convert.h"

#include <errno.h>
#include <stdlib.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"

#define LINE_OCTETS 998 /* without its CRLF: of 7bit and 8bit data (RFC 2045 2.7, 2.8) */

/* A leaf that has what cannot stay, or a multipart or message that has some in front of its first child: then it may
 * have none (structure.h), and they are content. Or a message/global, with all that is in it. */
struct found {
    const struct mime_part *part;
    uint64_t bytes;
    uint64_t high; /* octets above 127 */
    uint64_t odd;  /* NUL, and CR and LF that are no CRLF */
    bool is_long;  /* some line */
    bool is_line;  /* it ends with a CRLF */
};

struct survey {
    enum convert_target target;
    struct mime_parser *parser;
    struct found *found; /* in the order of the message */
    size_t count, cap;
    size_t next; /* second look: the first that has not been come by */
    struct found now;
    bool is_cr;    /* the last octet of `now` was a CR */
    uint64_t line; /* octets of its last line */
};

static void count_octet(struct survey *s, unsigned char c)
{
    struct found *f = &s->now;
    bool is_crlf = s->is_cr && c == '\n';

    f->odd += (s->is_cr && c != '\n') || (c == '\n' && !s->is_cr) || c == '\0';
    f->high += c > 127;
    f->is_line = is_crlf;
    s->is_cr = c == '\r';
    s->line = is_crlf ? 0 : s->line + (c != '\r');
    f->is_long = f->is_long || s->line > LINE_OCTETS;
}

/* A message with a header that may be in UTF-8. It is encoded as a whole: its header cannot be otherwise, and it may be
 * (RFC 6532 3.7), which message/rfc822 may not (RFC 2045 6.4). */
static bool is_global(const struct mime_part *p)
{
    return mime_part_is(p, "message", "global") && p->encoding_kind == MIME_ENCODING_NONE;
}

/* The outermost of those around a part, or it; NULL: there is none. */
static const struct mime_part *global_around(const struct mime_part *p)
{
    const struct mime_part *found = NULL;

    for (; p; p = p->parent)
        if (is_global(p))
            found = p;
    return found;
}

/* The part that was counted is over: it is kept if it cannot stay as it is. */
static int end_count(struct survey *s)
{
    struct found f = s->now;

    f.odd += s->is_cr;
    s->now = (struct found){0};
    s->is_cr = false;
    s->line = 0;
    if (s->target == CONVERT_LINES ? f.odd == 0 && !f.is_long : f.high == 0)
        return 0;
    if (s->target == CONVERT_GLOBAL && !is_global(f.part) && !mime_part_is(f.part, "message", "global-headers"))
        return 0;
    if (s->count == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 8;
        struct found *more = reallocarray(s->found, cap, sizeof(*more)); /* at most LIMIT_MIME_PARTS */

        if (!more)
            return -ENOMEM;
        s->found = more;
        s->cap = cap;
    }
    s->found[s->count++] = f;
    return 0;
}

static int count_bytes(struct survey *s, const struct mime_part *part, struct str bytes)
{
    int r = 0;

    if (s->now.part != part) {
        r = end_count(s);
        s->now.part = part;
    }
    for (size_t i = 0; i < bytes.len; i++)
        count_octet(s, (unsigned char)bytes.ptr[i]);
    s->now.bytes += bytes.len;
    return r;
}

/* The header of a message in a message/global is content of that. */
static int survey_header(void *context, const struct mime_part *part, struct str header)
{
    struct survey *s = context;
    const struct mime_part *around = s->target == CONVERT_LINES ? NULL : global_around(part->parent);
    int r = around ? count_bytes(s, around, header) : 0;

    s->now.high += around && header.len == LIMIT_HEADER; /* what comes behind that was not seen */
    return r;
}

static int survey_body(void *context, const struct mime_part *part, struct str bytes)
{
    struct survey *s = context;
    const struct mime_part *around = s->target == CONVERT_LINES ? NULL : global_around(part);

    if (around)
        return count_bytes(s, around, bytes);
    if (part->kind != MIME_LEAF && part->child) /* epilogue, and what is between the parts */
        return 0;
    return count_bytes(s, part, bytes);
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

static int add_edit(struct convert *c, uint64_t from, uint64_t to, const struct mime_part *part, enum convert_kind kind)
{
    if (from < to)
        c->edits[c->count++] = (struct convert_edit){.from = from, .to = to, .part = part, .kind = kind};
    return 0;
}

static bool is_label(const struct mime_part *p, const char *label)
{
    return str_ieq(str_trim(p->encoding), str_from(label));
}

/* Inside of what a signature of another kind covers (RFC 1847 2.1). */
static bool is_sealed(const struct mime_part *p)
{
    for (; p; p = p->parent)
        if (mime_part_is(p, "multipart", "signed"))
            return true;
    return false;
}

/* The header of a part whose content stays, or is that of other parts. */
static enum convert_kind header_kind(const struct convert *c, const struct mime_part *p)
{
    if (p->body == p->end || p->body - p->header > LIMIT_HEADER || is_sealed(p->parent))
        return CONVERT_HEADER_SAME;
    if (c->target == CONVERT_LINES)
        return is_label(p, "binary") ? CONVERT_HEADER_8BIT : CONVERT_HEADER_SAME;
    return is_label(p, "8bit") || is_label(p, "binary") ? CONVERT_HEADER_7BIT : CONVERT_HEADER_SAME;
}

/* Quoted-printable can be read by people, but only base64 keeps a last line without an end (RFC 2045 6.7): whoever
 * stores a message gives it one. */
static bool is_for_base64(const struct convert *c, const struct found *f)
{
    const struct mime_part *p = f->part;

    if ((!mime_part_is(p, "text", "*") && !mime_part_is(p, "message", "*")) || f->high + f->odd > f->bytes / 3)
        return true;
    return c->target == CONVERT_LINES && !f->is_line && p->end == c->tree.root->end;
}

/* An encoding that is there already cannot be encoded once more (RFC 2045 6.4). */
static int plan_encoded(struct convert *c, const struct mime_part *p)
{
    if (c->target == CONVERT_7BIT && p->encoding_kind == MIME_ENCODING_QUOTED_PRINTABLE) {
        c->breaks_seal |= is_sealed(p->parent);
        (void)add_edit(c, p->header, p->body, p, CONVERT_HEADER_SAME);
        return add_edit(c, p->body, p->end, p, CONVERT_ESCAPE);
    }
    /* RFC 2045 6.8: other bytes are ignored; masked they still are. */
    if (c->target == CONVERT_7BIT && p->encoding_kind == MIME_ENCODING_BASE64)
        return add_edit(c, p->header, p->body, p, CONVERT_HEADER_SAME);
    return c->target == CONVERT_LINES ? -EBADMSG : -ENOTSUP;
}

/* The whole of a part. 1, or -ENOTSUP. */
static int plan_whole(struct convert *c, const struct found *f)
{
    const struct mime_part *p = f->part;
    bool is_base64 = is_for_base64(c, f);

    if (p->body - p->header > LIMIT_HEADER)
        return -ENOTSUP;
    c->breaks_seal |= is_sealed(p->parent);
    (void)add_edit(c, p->header, p->body, p, is_base64 ? CONVERT_HEADER_BASE64 : CONVERT_HEADER_QP);
    (void)add_edit(c, p->body, p->end, p, is_base64 ? CONVERT_BASE64 : CONVERT_QP);
    return 1;
}

/* A report for a server that has 8BITMIME, but not SMTPUTF8 (RFC 6533 4.5): the rest of it stays as it is. */
static int plan_global(struct convert *c, const struct found *found)
{
    if (!found || found->part->encoding_kind != MIME_ENCODING_NONE ||
        !mime_part_is(c->tree.root, "multipart", "report"))
        return 0;
    return plan_whole(c, found);
}

/* Decides on one part; its children come behind it, unless it is 1. */
static int plan_part(struct convert *c, struct survey *s, const struct mime_part *p)
{
    const struct found *found = find(s, p);

    if (c->target == CONVERT_GLOBAL)
        return plan_global(c, found);
    if (found && c->target == CONVERT_7BIT && is_global(p))
        return plan_whole(c, found);
    if (found && p->kind != MIME_LEAF) {
        if (p->child && p->child->header == p->body) /* all of it is one part that was made up */
            return -ENOTSUP;
        found = NULL; /* a preamble */
    }
    if (!found)
        return add_edit(c, p->header, p->body, p, header_kind(c, p));
    if (p->header == p->body) /* a body of which the structure says nothing: there is no header to say it in */
        return -ENOTSUP;
    if (p->encoding_kind == MIME_ENCODING_QUOTED_PRINTABLE || p->encoding_kind == MIME_ENCODING_BASE64)
        return plan_encoded(c, p);
    if (p->encoding_kind != MIME_ENCODING_NONE)
        return -ENOTSUP;
    /* RFC 2045 6.4: these have no other encodings; and what is a part only for us may be several for others. */
    if (c->target == CONVERT_LINES && (mime_part_is(p, "message", "*") || !mime_tree_is_followed(&c->tree)))
        return -ENOTSUP;
    return plan_whole(c, found);
}

/* The tree in the order of the message, without recursion. */
static int plan_tree(struct convert *c, struct survey *s)
{
    const struct mime_part *p = c->tree.root;
    int r = 0;

    while (p && r == 0) {
        r = plan_part(c, s, p);
        if (r > 0) {
            r = 0;
        } else if (p->child) {
            p = p->child;
            continue;
        }
        while (p && !p->next)
            p = p->parent;
        p = p ? p->next : NULL;
    }
    return r;
}

/* The last part is binary, and its last line has no end: whoever stores the message would give it one. */
static bool is_open_end(const struct survey *s)
{
    const struct found *f = &s->now;

    return s->target == CONVERT_LINES && f->bytes > 0 && !f->is_line && f->part->kind == MIME_LEAF &&
           is_label(f->part, "binary");
}

static int plan(int fd, struct survey *s, struct convert *c)
{
    struct mime_sink sink = {.context = s, .header = survey_header, .body = survey_body};
    int r = mime_parser_new(&s->parser);

    if (r < 0)
        return r;
    mime_parser_set_sink(s->parser, &sink);
    r = c->target == CONVERT_LINES ? content_read_raw(fd, survey_piece, s) : content_read(fd, survey_piece, s);
    if (r == 0)
        r = mime_parser_end(s->parser, &c->tree);
    s->now.odd += r == 0 && is_open_end(s);
    if (r == 0)
        r = end_count(s);
    if (r == 0) {
        c->edits = calloc(2 * (size_t)c->tree.part_count + 2, sizeof(*c->edits));
        r = c->edits ? plan_tree(c, s) : -ENOMEM;
    }
    return r;
}

int convert_plan(int fd, enum convert_target target, struct convert *ret)
{
    struct survey s = {.target = target};
    struct convert c = {.target = target};
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
