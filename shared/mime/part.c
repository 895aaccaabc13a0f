/*
 * A part's header fields: see part.h.
 */
#include "shared/mime/part.h"

#include <errno.h>
#include <stdlib.h>

#include "shared/base/limits.h"
#include "shared/mime/decode.h"
#include "shared/mime/envelope.h"
#include "shared/mime/header.h"

#define LANGUAGES_MAX 32

void mime_part_link(struct mime_part *parent, struct mime_part *last, struct mime_part *child)
{
    child->parent = parent;
    child->number = last ? last->number + 1 : 1;
    if (last)
        last->next = child;
    else
        parent->child = child;
    parent->child_count++;
}

static int copy_params(struct mime_params params, struct mime_arena *arena, struct mime_params *ret)
{
    struct mime_param *items;
    int r = 0;

    if (!params.count)
        return 0;
    items = mime_arena_alloc(arena, params.count * sizeof(*items));
    if (!items)
        return -ENOMEM;
    *ret = (struct mime_params){.items = items};
    for (size_t i = 0; i < params.count && !r; i++) {
        struct mime_param *to = &items[ret->count];

        r = mime_arena_copy(arena, params.items[i].name, &to->name);
        if (!r)
            r = mime_arena_copy(arena, params.items[i].value, &to->value);
        if (!r)
            r = mime_arena_copy(arena, params.items[i].extended, &to->extended);
        if (!r && to->name.ptr && to->value.ptr) /* not over LIMIT_MIME_TEXT */
            ret->count++;
    }
    return r;
}

static bool is_type_char(char c)
{
    return (unsigned char)c > 0x20 && c != 0x7f && c != '/' && c != ';' && c != ',' && c != '(' && c != '"';
}

/* Takes a run of token characters; false if it is empty. */
static bool take_type(struct str *s, struct str *ret)
{
    size_t n = 0;

    *s = str_trim(*s);
    while (n < s->len && is_type_char(s->ptr[n]))
        n++;
    *ret = str_sub(*s, 0, n);
    *s = str_sub(*s, n, s->len);
    return n > 0;
}

/* RFC 2046 5.1.5: in a digest it is message/rfc822; else RFC 2045 5.2. */
static int set_default_type(struct mime_part *part, struct mime_arena *arena)
{
    if (part->parent && part->parent->kind == MIME_MULTIPART && str_ieq(part->parent->subtype, STR("digest"))) {
        part->type = STR("message");
        part->subtype = STR("rfc822");
        return 0;
    }
    part->type = STR("text");
    part->subtype = STR("plain");
    part->params = (struct mime_params){.items = mime_arena_alloc(arena, sizeof(struct mime_param)), .count = 1};
    if (!part->params.items)
        return -ENOMEM;
    part->params.items[0] = (struct mime_param){.name = STR("charset"), .value = STR("us-ascii")};
    return 0;
}

static int fill_type(struct mime_part *part, struct str body, struct mime_arena *arena)
{
    _cleanup_buf_ struct buf text = BUF_INIT(8 * LIMIT_HEADER_FIELD);
    struct str value, type, subtype;
    struct mime_params params = {0};
    int r = mime_params_parse(body, &text, &value, &params);

    if (r)
        return r == -ENOBUFS ? set_default_type(part, arena) : r;
    if (take_type(&value, &type) && str_cut(&value, '/', &subtype) && take_type(&value, &subtype)) {
        r = mime_arena_copy(arena, type, &part->type);
        if (!r)
            r = mime_arena_copy(arena, subtype, &part->subtype);
        if (!r)
            r = copy_params(params, arena, &part->params);
    }
    free(params.items);
    if (!r && (!part->type.ptr || !part->subtype.ptr))
        r = set_default_type(part, arena);
    return r;
}

static int fill_disposition(struct mime_part *part, struct str body, struct mime_arena *arena)
{
    _cleanup_buf_ struct buf text = BUF_INIT(8 * LIMIT_HEADER_FIELD);
    struct mime_params params = {0};
    struct str value;
    int r = mime_params_parse(body, &text, &value, &params);

    if (r)
        return r == -ENOBUFS ? 0 : r;
    r = mime_arena_copy(arena, value, &part->disposition);
    if (!r && part->disposition.ptr)
        r = copy_params(params, arena, &part->disposition_params);
    free(params.items);
    return r;
}

static int fill_text(struct str *field, struct str body, struct mime_arena *arena)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_HEADER_FIELD);
    int r = header_unfold(body, &text);

    return r ? r : mime_arena_copy(arena, text.len ? buf_str(&text) : STR(""), field);
}

/* The value alone, as of Content-Transfer-Encoding: comments and parameters do not count. */
static int fill_token(struct str *field, struct str body, struct mime_arena *arena)
{
    _cleanup_buf_ struct buf text = BUF_INIT(8 * LIMIT_HEADER_FIELD);
    struct mime_params params = {0};
    struct str value, word;
    int r = mime_params_parse(body, &text, &value, &params);

    free(params.items);
    if (r)
        return r == -ENOBUFS ? 0 : r;
    return str_word(&value, &word) ? mime_arena_copy(arena, word, field) : 0;
}

static int fill_languages(struct mime_part *part, struct str body, struct mime_arena *arena)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_HEADER_FIELD);
    struct str rest, tag;
    int r = header_unfold(body, &text);

    if (!r) {
        part->languages = mime_arena_alloc(arena, LANGUAGES_MAX * sizeof(struct str));
        r = part->languages ? 0 : -ENOMEM;
    }
    rest = buf_str(&text);
    while (!r && rest.len && part->language_count < LANGUAGES_MAX) {
        (void)str_cut(&rest, ',', &tag);
        tag = str_trim(tag);
        if (!tag.len)
            continue;
        r = mime_arena_copy(arena, tag, &part->languages[part->language_count]);
        if (!r && part->languages[part->language_count].ptr)
            part->language_count++;
    }
    return r;
}

static int fill_field(struct mime_part *part, const struct header_field *f, struct mime_arena *arena)
{
    struct str name;

    if (!str_istarts(f->name, STR("content-")))
        return 0;
    name = str_sub(f->name, 8, f->name.len);
    /* The first field of a name counts. */
    if (str_ieq(name, STR("type")))
        return part->type.ptr ? 0 : fill_type(part, f->body, arena);
    if (str_ieq(name, STR("transfer-encoding")))
        return part->encoding.ptr ? 0 : fill_token(&part->encoding, f->body, arena);
    if (str_ieq(name, STR("id")))
        return part->id.ptr ? 0 : fill_text(&part->id, f->body, arena);
    if (str_ieq(name, STR("description")))
        return part->description.ptr ? 0 : fill_text(&part->description, f->body, arena);
    if (str_ieq(name, STR("md5")))
        return part->md5.ptr ? 0 : fill_text(&part->md5, f->body, arena);
    if (str_ieq(name, STR("disposition")))
        return part->disposition.ptr ? 0 : fill_disposition(part, f->body, arena);
    if (str_ieq(name, STR("language")))
        return part->languages ? 0 : fill_languages(part, f->body, arena);
    if (str_ieq(name, STR("location")))
        return part->location.ptr ? 0 : fill_text(&part->location, f->body, arena);
    return 0;
}

int mime_part_fill(struct mime_part *part, struct str header, struct mime_arena *arena)
{
    bool is_nested = part->parent && part->parent->kind == MIME_MESSAGE;
    _cleanup_buf_ struct buf envelope = BUF_INIT(LIMIT_HEADER);
    struct header_iter i = header_iterate(header);
    struct header_field field;
    int r = 0;

    while (!r && header_next(&i, &field)) {
        r = fill_field(part, &field, arena);
        if (!r && is_nested && envelope_needs(field.name))
            r = buf_add_str(&envelope, field.raw);
    }
    if (!r && is_nested)
        r = mime_arena_copy(arena, envelope.len ? buf_str(&envelope) : STR(""), &part->envelope);
    if (!r && !part->type.ptr)
        r = set_default_type(part, arena);
    if (r)
        return r;
    part->encoding_kind = decoder_kind(part->encoding);
    if (str_ieq(part->type, STR("multipart")))
        part->kind = MIME_MULTIPART;
    else if (mime_part_is(part, "message", "rfc822") || mime_part_is(part, "message", "global"))
        part->kind = MIME_MESSAGE;
    return 0;
}

int mime_part_add_text_child(struct mime_part *part, struct mime_arena *arena, uint32_t *count)
{
    struct mime_part *child = mime_arena_alloc(arena, sizeof(*child));

    if (!child)
        return -ENOMEM;
    mime_part_link(part, NULL, child);
    child->header = child->body = part->body;
    child->end = part->end;
    child->lines = part->lines;
    child->encoding_kind = part->encoding_kind;
    child->encoding = part->encoding;
    child->type = STR("text");
    child->subtype = STR("plain");
    if (part->kind == MIME_MESSAGE)
        child->envelope = STR("");
    *count += 1;
    return 0;
}
