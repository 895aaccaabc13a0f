/*
 * BODY and BODYSTRUCTURE: see bodystructure.h.
 */
#include "shared/mime/bodystructure.h"

#include "shared/mime/envelope.h"
#include "shared/mime/nstring.h"

/* What goes where, and the first error. */
struct printer {
    struct buf *out;
    bool is_extended;
    bool is_utf8;
    int error;
};

static void print_raw(struct printer *p, const char *text)
{
    if (!p->error)
        p->error = buf_add_str(p->out, str_from(text));
}

static void print_string(struct printer *p, struct str s)
{
    if (!p->error)
        p->error = nstring_add(p->out, s, p->is_utf8);
}

/* A blank, then the string or NIL. */
static void print_next(struct printer *p, struct str s)
{
    print_raw(p, " ");
    if (!p->error)
        p->error = nstring_add_nil(p->out, s, p->is_utf8);
}

static void print_number(struct printer *p, uint64_t n)
{
    print_raw(p, " ");
    if (!p->error)
        p->error = buf_add_u64(p->out, n);
}

/* A charset-encoded value goes out as it came, continuations joined: `name*` "utf-8''%e2%82%ac" (RFC 2231 6). */
static void print_params(struct printer *p, const struct mime_params *params)
{
    if (!params->count) {
        print_raw(p, " NIL");
        return;
    }
    for (size_t i = 0; i < params->count && !p->error; i++) {
        const struct mime_param *param = &params->items[i];
        struct buf name = BUF_INIT(param->name.len + 1);

        print_raw(p, i ? " " : " (");
        p->error = p->error ? p->error : buf_add_str(&name, param->name);
        if (!p->error && param->extended.ptr)
            p->error = buf_add_byte(&name, '*');
        print_string(p, buf_str(&name));
        print_next(p, param->extended.ptr ? param->extended : param->value);
        buf_finish(&name);
    }
    print_raw(p, ")");
}

static void print_disposition(struct printer *p, const struct mime_part *part)
{
    if (!part->disposition.ptr) {
        print_raw(p, " NIL");
        return;
    }
    print_raw(p, " (");
    print_string(p, part->disposition);
    print_params(p, &part->disposition_params);
    print_raw(p, ")");
}

/* nstring for one, a list for more (RFC 9051 9 body-fld-lang). */
static void print_languages(struct printer *p, const struct mime_part *part)
{
    if (part->language_count <= 1) {
        print_next(p, part->language_count ? part->languages[0] : STR_NULL);
        return;
    }
    for (size_t i = 0; i < part->language_count; i++) {
        print_raw(p, i ? " " : " (");
        print_string(p, part->languages[i]);
    }
    print_raw(p, ")");
}

/* Extension data behind the MD5 or the multipart's parameters (RFC 9051 7.5.2). */
static void print_extension(struct printer *p, const struct mime_part *part)
{
    print_disposition(p, part);
    print_languages(p, part);
    print_next(p, part->location);
}

static void print_part(struct printer *p, const struct mime_part *part);

static void print_multipart(struct printer *p, const struct mime_part *part)
{
    for (const struct mime_part *c = part->child; c && !p->error; c = c->next)
        print_part(p, c);
    print_next(p, part->subtype);
    if (p->is_extended) {
        print_params(p, &part->params);
        print_extension(p, part);
    }
}

static void print_leaf(struct printer *p, const struct mime_part *part)
{
    print_string(p, part->type);
    print_next(p, part->subtype);
    print_params(p, &part->params);
    print_next(p, part->id);
    print_next(p, part->description);
    print_next(p, part->encoding.ptr && part->encoding.len ? part->encoding : STR("7bit"));
    print_number(p, part->end - part->body);
    if (part->kind == MIME_MESSAGE) {
        print_raw(p, " ");
        if (!p->error)
            p->error = envelope_print(part->child->envelope, p->is_utf8, p->out);
        print_raw(p, " ");
        print_part(p, part->child);
        print_number(p, part->lines);
    } else if (mime_part_is(part, "text", "*")) {
        print_number(p, part->lines);
    }
    if (p->is_extended) {
        print_next(p, part->md5);
        print_extension(p, part);
    }
}

/* Depth of recursion: that of the tree, LIMIT_MIME_DEPTH and a little. */
static void print_part(struct printer *p, const struct mime_part *part)
{
    print_raw(p, "(");
    if (part->kind == MIME_MULTIPART)
        print_multipart(p, part);
    else
        print_leaf(p, part);
    print_raw(p, ")");
}

int bodystructure_print(const struct mime_part *part, bool is_extended, bool is_utf8, struct buf *out)
{
    struct printer p = {.out = out, .is_extended = is_extended, .is_utf8 = is_utf8};
    size_t start = out->len;

    print_part(&p, part);
    if (p.error)
        buf_truncate(out, start);
    return p.error;
}
