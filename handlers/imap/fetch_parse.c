/*
 * The arguments of FETCH (RFC 9051 6.4.5). Runs in imap-session as the user.
 */
#include <errno.h>
#include <string.h>

#include "handlers/imap/fetch.h"
#include "handlers/imap/qresync.h"
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
    {"MODSEQ", FETCH_MODSEQ, 0},
    {"SAVEDATE", FETCH_SAVEDATE, 0},
    {"EMAILID", FETCH_EMAILID, 0},
    {"THREADID", FETCH_THREADID, 0},
    {"PREVIEW", FETCH_PREVIEW, NEEDS_CONTENT},
};

/* May it be asked for several times, for different things? */
static bool has_arguments(enum fetch_kind kind)
{
    return kind == FETCH_SECTION || kind == FETCH_BINARY || kind == FETCH_BINARY_SIZE || kind == FETCH_PREVIEW;
}

static struct fetch_item *fetch_add(struct fetch *f, enum fetch_kind kind, unsigned flags)
{
    /* What is asked twice is told once. */
    for (size_t i = 0; i < f->count && !has_arguments(kind); i++)
        if (f->items[i].kind == kind)
            return &f->items[i];
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
    f->has_modseq = f->has_modseq || kind == FETCH_MODSEQ;
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

/* The items with a section behind them. */
static const struct {
    const char *name;
    enum fetch_kind kind;
    unsigned flags;
} section_names[] = {
    {"BODY[", FETCH_SECTION, NEEDS_CONTENT | SETS_SEEN},  {"BODY.PEEK[", FETCH_SECTION, NEEDS_CONTENT},
    {"BINARY[", FETCH_BINARY, NEEDS_CONTENT | SETS_SEEN}, {"BINARY.PEEK[", FETCH_BINARY, NEEDS_CONTENT},
    {"BINARY.SIZE[", FETCH_BINARY_SIZE, NEEDS_CONTENT},
};

/* PREVIEW [SP "(" "LAZY" *(SP "LAZY") ")"] (RFC 8970 6). Another parenthesis behind a lone PREVIEW opens the modifiers
 * of FETCH. */
static int parse_preview(struct fetch *f, struct fetch_item *item)
{
    struct parse *p = &f->s->parse;
    struct str before = p->rest;

    item->is_lazy = parse_accept(p, ' ') && parse_accept(p, '(') && parse_accept_word(p, STR("LAZY"));
    if (!item->is_lazy) {
        p->rest = before;
        return 0;
    }
    while (parse_accept(p, ' '))
        if (!parse_accept_word(p, STR("LAZY")))
            return parse_fail(p, "LAZY");
    return parse_char(p, ')', "a closing parenthesis");
}

static int parse_section(struct fetch *f, struct fetch_item *item)
{
    int r = section_parse(f->s, item->kind != FETCH_SECTION, &item->section);

    return r < 0 || item->kind == FETCH_BINARY_SIZE ? r : section_parse_partial(f->s, &item->section);
}

/* fetch-att */
static int parse_item(struct fetch *f)
{
    struct parse *p = &f->s->parse;
    struct fetch_item *item;

    for (size_t i = 0; i < ARRAY_SIZE(section_names); i++) {
        struct str name = str_from(section_names[i].name);

        if (!str_istarts(p->rest, name))
            continue;
        p->rest = str_sub(p->rest, name.len - 1, p->rest.len);
        item = fetch_add(f, section_names[i].kind, section_names[i].flags);
        return item ? parse_section(f, item) : -EMSGSIZE;
    }
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (!parse_accept_word(p, str_from(names[i].name)))
            continue;
        if (names[i].kind == FETCH_MODSEQ && !condstore_is_kept(f->s)) /* RFC 7162 3.1.2.2 */
            return parse_fail(p, "no MODSEQ: this mailbox keeps none");
        item = fetch_add(f, names[i].kind, names[i].flags);
        if (!item)
            return -EMSGSIZE;
        return item->kind == FETCH_PREVIEW ? parse_preview(f, item) : 0;
    }
    return parse_fail(p, "an item like FLAGS, ENVELOPE or BODY[]");
}

/* [SP "(" modifier *(SP modifier) ")"]: CHANGEDSINCE, VANISHED (RFC 7162 3.2.6), PARTIAL (RFC 9394 3.3). */
int fetch_parse_modifiers(struct fetch *f)
{
    struct parse *p = &f->s->parse;
    bool is_uid = f->s->is_uid, can_vanish = is_uid && (f->s->enabled & IMAP_QRESYNC);
    int r;

    if (!parse_accept(p, ' '))
        return 0;
    r = parse_char(p, '(', "modifiers in parentheses or the end of the command");
    do {
        if (r < 0)
            return r;
        if (parse_accept_word(p, STR("CHANGEDSINCE"))) {
            f->has_changed_since = true;
            r = parse_space(p);
            if (r >= 0)
                r = condstore_parse_modseq(f->s, &f->changed_since);
        } else if (can_vanish && parse_accept_word(p, STR("VANISHED"))) {
            f->wants_vanished = true;
        } else if (is_uid && !f->partial.is_wanted && parse_accept_word(p, STR("PARTIAL"))) {
            r = partial_parse(p, &f->partial);
        } else {
            return parse_fail(p, can_vanish ? "CHANGEDSINCE, VANISHED or one PARTIAL"
                                 : is_uid   ? "CHANGEDSINCE or one PARTIAL"
                                            : "CHANGEDSINCE");
        }
    } while (r < 0 || parse_accept(p, ' '));
    /* RFC 7162 3.2.6 */
    if (f->wants_vanished && !f->has_changed_since)
        return parse_fail(p, "CHANGEDSINCE together with VANISHED");
    if (f->has_changed_since && !f->has_modseq && !fetch_add(f, FETCH_MODSEQ, 0))
        return -EMSGSIZE;
    return parse_char(p, ')', "a space or a closing parenthesis");
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
