/*
 * The arguments of FETCH (RFC 9051 6.4.5). Runs in imap-session as the user.
 */
#include <errno.h>
#include <string.h>

#include "handlers/imap/fetch.h"
#include "shared/base/macros.h"

enum {
    NEEDS_CONTENT = 1u << 0,
    SETS_SEEN = 1u << 1,
};

static const struct {
    const char *name;
    enum fetch_kind kind;
    unsigned flags;
} names[] = {
    {"FLAGS", FETCH_FLAGS, 0},
    {"UID", FETCH_UID, 0},
    {"INTERNALDATE", FETCH_INTERNALDATE, 0},
    {"RFC822.SIZE", FETCH_SIZE, 0},
    {"ENVELOPE", FETCH_ENVELOPE, NEEDS_CONTENT},
    {"BODYSTRUCTURE", FETCH_BODYSTRUCTURE, NEEDS_CONTENT},
    {"BODY", FETCH_BODY, NEEDS_CONTENT},
    {"RFC822", FETCH_RFC822, NEEDS_CONTENT | SETS_SEEN},
    {"RFC822.HEADER", FETCH_RFC822_HEADER, NEEDS_CONTENT},
    {"RFC822.TEXT", FETCH_RFC822_TEXT, NEEDS_CONTENT | SETS_SEEN},
};

static struct fetch_item *fetch_add(struct fetch *f, enum fetch_kind kind, unsigned flags)
{
    if (f->count == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 8;
        struct fetch_item *more = cap > FETCH_ITEMS ? NULL : parse_alloc(&f->s->parse, cap * sizeof(*more));

        if (!more)
            return NULL;
        if (f->count)
            memcpy(more, f->items, f->count * sizeof(*more));
        f->items = more;
        f->cap = cap;
    }
    f->needs_content = f->needs_content || (flags & NEEDS_CONTENT);
    f->sets_seen = f->sets_seen || (flags & SETS_SEEN);
    f->has_uid = f->has_uid || kind == FETCH_UID;
    f->has_flags = f->has_flags || kind == FETCH_FLAGS;
    f->items[f->count] = (struct fetch_item){.kind = kind};
    return &f->items[f->count++];
}

static int fetch_add_all(struct fetch *f, const enum fetch_kind *kinds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!fetch_add(f, kinds[i], kinds[i] >= FETCH_ENVELOPE ? NEEDS_CONTENT : 0))
            return -EMSGSIZE;
    return 0;
}

/* BODY[...] and BODY.PEEK[...] */
static int parse_section_item(struct fetch *f, bool is_peek)
{
    struct fetch_item *item = fetch_add(f, FETCH_SECTION, NEEDS_CONTENT | (is_peek ? 0 : SETS_SEEN));

    return item ? section_parse(f->s, false, &item->section) : -EMSGSIZE;
}

/* fetch-att */
static int parse_item(struct fetch *f)
{
    struct parse *p = &f->s->parse;

    if (str_istarts(p->rest, STR("BODY["))) {
        p->rest = str_sub(p->rest, 4, p->rest.len);
        return parse_section_item(f, false);
    }
    if (str_istarts(p->rest, STR("BODY.PEEK["))) {
        p->rest = str_sub(p->rest, 9, p->rest.len);
        return parse_section_item(f, true);
    }
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (parse_accept_word(p, str_from(names[i].name)))
            return fetch_add(f, names[i].kind, names[i].flags) ? 0 : -EMSGSIZE;
    return parse_fail(p, "an item like FLAGS, ENVELOPE or BODY[]");
}

int fetch_parse(struct fetch *f)
{
    static const enum fetch_kind full[] = {FETCH_FLAGS, FETCH_INTERNALDATE, FETCH_SIZE, FETCH_ENVELOPE, FETCH_BODY};
    struct parse *p = &f->s->parse;
    int r;

    /* The macros, RFC 9051 6.4.5: each is the beginning of the next. */
    if (parse_accept_word(p, STR("FAST")))
        return fetch_add_all(f, full, 3);
    if (parse_accept_word(p, STR("ALL")))
        return fetch_add_all(f, full, 4);
    if (parse_accept_word(p, STR("FULL")))
        return fetch_add_all(f, full, 5);
    if (!parse_accept(p, '('))
        return parse_item(f);
    do {
        r = parse_item(f);
        if (r < 0)
            return r;
    } while (parse_accept(p, ' '));
    return parse_char(p, ')', "a space or a closing parenthesis");
}
