/*
 * Trees: looking parts up, and their form in the cache. Declared in structure.h.
 *
 * The form: a version byte, then every part before its children: kind, encoding, offsets relative to where the parent's
 * or the previous part's bytes lead one to expect them, strings, number of children. Numbers are little-endian base
 * 128, a string is its length plus one (0: null) and its bytes. The reader believes nothing.
 */
#include <errno.h>

#include "shared/base/limits.h"
#include "shared/mime/arena.h"
#include "shared/mime/part.h"
#include "shared/mime/structure.h"

#define TREE_VERSION   1
#define TREE_PARTS_MAX (2 * LIMIT_MIME_PARTS + 2) /* each may have a text child that was made up */
#define TREE_DEPTH_MAX (LIMIT_MIME_DEPTH + 2)
#define TREE_LIST_MAX  LIMIT_PARAMETERS

/* ---- lookup ---- */

/* Number n of what a message consists of: of its multipart, else the one body that it is. */
static const struct mime_part *part_in_message(const struct mime_part *message, uint32_t n)
{
    const struct mime_part *child;

    if (message->kind != MIME_MULTIPART)
        return n == 1 ? message : NULL;
    for (child = message->child; child && child->number != n;)
        child = child->next;
    return child;
}

/* A child that was made up covers the whole body, without a header. */
static bool has_made_up_child(const struct mime_part *part)
{
    const struct mime_part *child = part->child;

    return child && !child->next && part->end > part->body && child->header == part->body &&
           child->body == part->body && child->end == part->end;
}

bool mime_tree_is_followed(const struct mime_tree *t)
{
    const struct mime_part *part = t->root;

    if (t->part_count >= LIMIT_MIME_PARTS)
        return false;
    while (part) {
        if (has_made_up_child(part))
            return false;
        if (part->child) {
            part = part->child;
            continue;
        }
        while (part && !part->next)
            part = part->parent;
        part = part ? part->next : NULL;
    }
    return true;
}

const struct mime_part *mime_part_find(const struct mime_part *root, const uint32_t *numbers, size_t count)
{
    const struct mime_part *part = count ? part_in_message(root, numbers[0]) : NULL;

    for (size_t i = 1; i < count && part; i++) {
        if (part->kind == MIME_LEAF)
            return NULL;
        part = part_in_message(part->kind == MIME_MESSAGE ? part->child : part, numbers[i]);
    }
    return part;
}

struct str mime_param_get(const struct mime_params *params, struct str name)
{
    for (size_t i = 0; i < params->count; i++) {
        if (str_ieq(params->items[i].name, name))
            return params->items[i].value;
    }
    return STR_NULL;
}

bool mime_part_is(const struct mime_part *part, const char *type, const char *subtype)
{
    return str_ieq(part->type, str_from(type)) &&
           (str_eq(str_from(subtype), STR("*")) || str_ieq(part->subtype, str_from(subtype)));
}

/* ---- writing ---- */

static int write_number(struct buf *out, uint64_t n)
{
    char bytes[10];
    size_t len = 0;

    for (; n >= 0x80; n >>= 7)
        bytes[len++] = (char)(n | 0x80);
    bytes[len++] = (char)n;
    return buf_add(out, bytes, len);
}

static int write_str(struct buf *out, struct str s)
{
    int r = write_number(out, s.ptr ? s.len + 1 : 0);

    return r ? r : buf_add_str(out, s);
}

static int write_params(struct buf *out, const struct mime_params *params)
{
    int r = write_number(out, params->count);

    for (size_t i = 0; i < params->count && !r; i++) {
        r = write_str(out, params->items[i].name);
        if (!r)
            r = write_str(out, params->items[i].value);
        if (!r)
            r = write_str(out, params->items[i].extended);
    }
    return r;
}

static int write_part(struct buf *out, const struct mime_part *part)
{
    const uint64_t numbers[] = {part->kind,
                                part->encoding_kind,
                                part->header - (part->parent ? part->parent->body : 0),
                                part->body - part->header,
                                part->end - part->body,
                                part->lines};
    const struct str strings[] = {part->type, part->subtype,     part->id,       part->description, part->encoding,
                                  part->md5,  part->disposition, part->location, part->envelope};
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(numbers) && !r; i++)
        r = write_number(out, numbers[i]);
    for (size_t i = 0; i < ARRAY_SIZE(strings) && !r; i++)
        r = write_str(out, strings[i]);
    if (!r)
        r = write_params(out, &part->params);
    if (!r)
        r = write_params(out, &part->disposition_params);
    if (!r)
        r = write_number(out, part->language_count);
    for (size_t i = 0; i < part->language_count && !r; i++)
        r = write_str(out, part->languages[i]);
    if (!r)
        r = write_number(out, part->child_count);
    for (const struct mime_part *c = part->child; c && !r; c = c->next)
        r = write_part(out, c);
    return r;
}

int mime_tree_write(const struct mime_tree *t, struct buf *out)
{
    size_t start = out->len;
    int r = buf_add_byte(out, TREE_VERSION);

    if (!r)
        r = write_part(out, t->root);
    if (r)
        buf_truncate(out, start);
    return r;
}

/* ---- reading ---- */

struct tree_reader {
    struct str rest;
    struct mime_arena *arena;
    uint32_t parts;
    unsigned depth;
};

static int read_number(struct tree_reader *t, uint64_t max, uint64_t *ret)
{
    uint64_t n = 0;

    for (unsigned shift = 0; shift < 63; shift += 7) {
        unsigned char c;

        if (!t->rest.len)
            return -EBADMSG;
        c = (unsigned char)t->rest.ptr[0];
        t->rest = str_sub(t->rest, 1, t->rest.len);
        n |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) {
            if (n > max)
                return -EBADMSG;
            *ret = n;
            return 0;
        }
    }
    return -EBADMSG;
}

static int read_str(struct tree_reader *t, struct str *ret)
{
    uint64_t len;
    int r = read_number(t, t->rest.len + 1, &len);

    if (r || !len)
        return r;
    if (len - 1 > t->rest.len)
        return -EBADMSG;
    r = mime_arena_copy(t->arena, str_sub(t->rest, 0, (size_t)len - 1), ret);
    t->rest = str_sub(t->rest, (size_t)len - 1, t->rest.len);
    return r ? r : ret->ptr ? 0 : -EBADMSG;
}

static int read_params(struct tree_reader *t, struct mime_params *ret)
{
    uint64_t count;
    int r = read_number(t, TREE_LIST_MAX, &count);

    if (r || !count)
        return r;
    ret->items = mime_arena_alloc(t->arena, (size_t)count * sizeof(*ret->items));
    if (!ret->items)
        return -ENOMEM;
    for (; ret->count < count && !r; ret->count++) {
        struct mime_param *param = &ret->items[ret->count];

        r = read_str(t, &param->name);
        if (!r)
            r = read_str(t, &param->value);
        if (!r)
            r = read_str(t, &param->extended);
        if (!r && (!param->name.ptr || !param->value.ptr))
            r = -EBADMSG;
    }
    return r;
}

static int read_languages(struct tree_reader *t, struct mime_part *part)
{
    uint64_t count;
    int r = read_number(t, TREE_LIST_MAX, &count);

    if (r || !count)
        return r;
    part->languages = mime_arena_alloc(t->arena, (size_t)count * sizeof(struct str));
    if (!part->languages)
        return -ENOMEM;
    for (; part->language_count < count && !r; part->language_count++) {
        r = read_str(t, &part->languages[part->language_count]);
        if (!r && !part->languages[part->language_count].ptr)
            r = -EBADMSG;
    }
    return r;
}

/* The offsets of a part must lie in its parent's body (the root's: in the message), each behind the one before it. */
static int read_place(struct tree_reader *t, struct mime_part *part, uint64_t from, uint64_t to)
{
    uint64_t kind, encoding, n;
    int r = read_number(t, MIME_MESSAGE, &kind);

    if (!r)
        r = read_number(t, MIME_ENCODING_UNKNOWN, &encoding);
    if (!r)
        r = read_number(t, to - from, &n);
    if (r)
        return r;
    part->kind = (enum mime_kind)kind;
    part->encoding_kind = (enum mime_encoding)encoding;
    part->header = from + n;
    r = read_number(t, to - part->header, &n);
    part->body = part->header + n;
    if (!r)
        r = read_number(t, to - part->body, &n);
    part->end = part->body + n;
    return r ? r : read_number(t, part->end - part->body, &part->lines);
}

static int read_fields(struct tree_reader *t, struct mime_part *part)
{
    struct str *strings[] = {&part->type, &part->subtype,     &part->id,       &part->description, &part->encoding,
                             &part->md5,  &part->disposition, &part->location, &part->envelope};
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(strings) && !r; i++)
        r = read_str(t, strings[i]);
    if (!r && (!part->type.ptr || !part->subtype.ptr))
        r = -EBADMSG;
    if (!r)
        r = read_params(t, &part->params);
    if (!r)
        r = read_params(t, &part->disposition_params);
    return r ? r : read_languages(t, part);
}

static bool is_child_count_possible(enum mime_kind kind, uint64_t count)
{
    return kind == MIME_LEAF ? count == 0 : kind == MIME_MESSAGE ? count == 1 : count >= 1;
}

/* Depth of recursion: TREE_DEPTH_MAX. */
static int read_part(struct tree_reader *t, struct mime_part *parent, struct mime_part *last, uint64_t message_size,
                     struct mime_part **ret)
{
    struct mime_part *part, *child = NULL;
    uint64_t count;
    int r;

    if (t->depth >= TREE_DEPTH_MAX || ++t->parts > TREE_PARTS_MAX)
        return -EBADMSG;
    part = mime_arena_alloc(t->arena, sizeof(*part));
    if (!part)
        return -ENOMEM;
    if (parent)
        mime_part_link(parent, last, part);
    r = read_place(t, part, parent ? parent->body : 0, parent ? parent->end : message_size);
    if (!r && ((last && part->header < last->end) ||
               (parent && parent->kind == MIME_MESSAGE && part->header != parent->body)))
        r = -EBADMSG;
    if (!r)
        r = read_fields(t, part);
    if (!r)
        r = read_number(t, TREE_PARTS_MAX, &count);
    if (!r && !is_child_count_possible(part->kind, count))
        r = -EBADMSG;
    t->depth++;
    for (uint64_t i = 0; !r && i < count; i++)
        r = read_part(t, part, child, message_size, &child);
    t->depth--;
    if (!r)
        *ret = part;
    return r;
}

int mime_tree_read(struct str bytes, uint64_t message_size, struct mime_tree *ret)
{
    struct tree_reader t = {.rest = str_sub(bytes, 1, bytes.len)};
    struct mime_part *root = NULL;
    int r;

    if (!bytes.len || bytes.ptr[0] != TREE_VERSION)
        return -EBADMSG;
    t.arena = mime_arena_new();
    if (!t.arena)
        return -ENOMEM;
    r = read_part(&t, NULL, NULL, message_size, &root);
    if (!r && (t.rest.len || root->header != 0 || root->end != message_size))
        r = -EBADMSG;
    if (r) {
        mime_arena_free(t.arena);
        return r;
    }
    *ret = (struct mime_tree){.root = root, .part_count = t.parts, .arena = t.arena};
    return 0;
}
