/*
 * Search keys (RFC 9051 6.4.4). Runs in imap-session as the user.
 */
#include <errno.h>
#include <string.h>

#include "handlers/imap/flags.h"
#include "handlers/imap/qresync.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/search.h"
#include "handlers/imap/seqset.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/mime/charset.h"

enum argument {
    ARG_NONE,
    ARG_FLAG,     /* none; `value` is the flag */
    ARG_NOT_FLAG, /* none; the flag must not be set */
    ARG_NUMBER,
    ARG_DATE,
    ARG_TEXT,
    ARG_FIELD,  /* a text to be looked for in the field `name` */
    ARG_HEADER, /* a field's name and a text */
    ARG_KEYWORD,
    ARG_NOT_KEYWORD,
    ARG_KEY,
    ARG_TWO_KEYS,
    ARG_UIDS,
    ARG_NEW,      /* RECENT UNSEEN */
    ARG_OLD,      /* NOT RECENT */
    ARG_INTERVAL, /* seconds, not 0 */
    ARG_MODSEQ,
    ARG_OBJECT_ID,
};

static const struct {
    const char *name;
    enum search_kind kind;
    enum argument argument;
    uint32_t flag;
} names[] = {
    {"ALL", SEARCH_ALL, ARG_NONE, 0},
    {"ANSWERED", SEARCH_FLAG, ARG_FLAG, MBOX_ANSWERED},
    {"DELETED", SEARCH_FLAG, ARG_FLAG, MBOX_DELETED},
    {"DRAFT", SEARCH_FLAG, ARG_FLAG, MBOX_DRAFT},
    {"FLAGGED", SEARCH_FLAG, ARG_FLAG, MBOX_FLAGGED},
    {"SEEN", SEARCH_FLAG, ARG_FLAG, MBOX_SEEN},
    {"UNANSWERED", SEARCH_FLAG, ARG_NOT_FLAG, MBOX_ANSWERED},
    {"UNDELETED", SEARCH_FLAG, ARG_NOT_FLAG, MBOX_DELETED},
    {"UNDRAFT", SEARCH_FLAG, ARG_NOT_FLAG, MBOX_DRAFT},
    {"UNFLAGGED", SEARCH_FLAG, ARG_NOT_FLAG, MBOX_FLAGGED},
    {"UNSEEN", SEARCH_FLAG, ARG_NOT_FLAG, MBOX_SEEN},
    {"RECENT", SEARCH_RECENT, ARG_NONE, 0},
    {"NEW", SEARCH_RECENT, ARG_NEW, 0},
    {"OLD", SEARCH_RECENT, ARG_OLD, 0},
    {"KEYWORD", SEARCH_KEYWORD, ARG_KEYWORD, 0},
    {"UNKEYWORD", SEARCH_KEYWORD, ARG_NOT_KEYWORD, 0},
    {"LARGER", SEARCH_LARGER, ARG_NUMBER, 0},
    {"SMALLER", SEARCH_SMALLER, ARG_NUMBER, 0},
    {"BEFORE", SEARCH_BEFORE, ARG_DATE, 0},
    {"ON", SEARCH_ON, ARG_DATE, 0},
    {"SINCE", SEARCH_SINCE, ARG_DATE, 0},
    {"SENTBEFORE", SEARCH_SENTBEFORE, ARG_DATE, 0},
    {"SENTON", SEARCH_SENTON, ARG_DATE, 0},
    {"SENTSINCE", SEARCH_SENTSINCE, ARG_DATE, 0},
    {"BCC", SEARCH_HEADER, ARG_FIELD, 0},
    {"CC", SEARCH_HEADER, ARG_FIELD, 0},
    {"FROM", SEARCH_HEADER, ARG_FIELD, 0},
    {"SUBJECT", SEARCH_HEADER, ARG_FIELD, 0},
    {"TO", SEARCH_HEADER, ARG_FIELD, 0},
    {"HEADER", SEARCH_HEADER, ARG_HEADER, 0},
    {"BODY", SEARCH_BODY, ARG_TEXT, 0},
    {"TEXT", SEARCH_TEXT, ARG_TEXT, 0},
    {"NOT", SEARCH_NOT, ARG_KEY, 0},
    {"OR", SEARCH_OR, ARG_TWO_KEYS, 0},
    {"UID", SEARCH_SEQUENCE, ARG_UIDS, 0},
    {"YOUNGER", SEARCH_YOUNGER, ARG_INTERVAL, 0},
    {"OLDER", SEARCH_OLDER, ARG_INTERVAL, 0},
    {"MODSEQ", SEARCH_MODSEQ, ARG_MODSEQ, 0},
    {"SAVEDBEFORE", SEARCH_SAVEDBEFORE, ARG_DATE, 0},
    {"SAVEDON", SEARCH_SAVEDON, ARG_DATE, 0},
    {"SAVEDSINCE", SEARCH_SAVEDSINCE, ARG_DATE, 0},
    {"SAVEDATESUPPORTED", SEARCH_ALL, ARG_NONE, 0},
    {"EMAILID", SEARCH_EMAILID, ARG_OBJECT_ID, 0},
    {"THREADID", SEARCH_NOTHING, ARG_OBJECT_ID, 0},
};

static int parse_key(struct search *q, unsigned depth, struct search_key **ret);

static struct search_key *new_key(struct search *q, enum search_kind kind)
{
    struct search_key *key = q->count < LIMIT_ARGUMENTS ? parse_alloc(&q->s->parse, sizeof(*key)) : NULL;

    if (!key)
        return NULL;
    *key = (struct search_key){.kind = kind, .older = q->newest};
    q->newest = key;
    q->count++;
    return key;
}

/* Makes key the child of a NOT. */
static int negate(struct search *q, struct search_key **key)
{
    struct search_key *not = new_key(q, SEARCH_NOT);

    if (!not )
        return -EMSGSIZE;
    not ->child = *key;
    *key = not ;
    return 0;
}

/* SP astring, converted to UTF-8. The empty string is in everything. */
static int parse_text(struct search *q, struct str *ret)
{
    struct parse *p = &q->s->parse;
    _cleanup_buf_ struct buf utf8 = BUF_INIT((size_t)LIMIT_LITERAL * 4);
    struct str raw;
    char *copy;
    int r = parse_space(p);

    if (r >= 0)
        r = parse_astring(p, "a string to look for", &raw);
    if (r < 0)
        return r;
    if (!q->charset.len && utf8_valid(raw)) {
        *ret = raw;
        return 0;
    }
    r = charset_to_utf8(q->charset.len ? q->charset : STR("us-ascii"), raw, q->has_charset, &utf8);
    if (r == -EILSEQ)
        return parse_fail(p, "a string in the character set that was named");
    if (r < 0)
        return r;
    copy = parse_alloc(p, utf8.len + 1);
    if (!copy)
        return -EMSGSIZE;
    if (utf8.len)
        memcpy(copy, utf8.data, utf8.len);
    *ret = (struct str){copy, utf8.len};
    return 0;
}

static int parse_keyword(struct search *q, struct search_key *key)
{
    struct parse *p = &q->s->parse;
    struct str name;
    unsigned n;
    int r = parse_space(p);

    if (r >= 0)
        r = parse_flag(p, &name);
    if (r < 0)
        return r;
    key->flag = flags_system(name);
    /* A keyword that the mailbox does not know is on no message: no bit. */
    if (!key->flag && mbox_keyword_number(q->s->box, name, false, &n) >= 0)
        key->number = UINT64_C(1) << n;
    return 0;
}

static int parse_set(struct search *q, bool is_uid, struct search_key *key)
{
    struct imap *s = q->s;
    struct str before = s->parse.rest, text;
    int r;

    if (parse_accept(&s->parse, '$'))
        return seqset_from_uids(s, &s->saved, &key->set);
    if (!is_uid && (s->enabled & IMAP_UIDONLY)) {
        respond_code(s, "UIDREQUIRED"); /* RFC 9586 3.5 */
        return parse_fail(&s->parse, "UID in front of a set after ENABLE UIDONLY");
    }
    /* RFC 7162 3.2.10.2: nothing vanishes during a UID SEARCH with message numbers. */
    s->has_numbers = s->has_numbers || !is_uid;
    r = parse_sequence(&s->parse, &text);
    if (r >= 0)
        r = seqset_resolve(s, text, is_uid, &key->set);
    if (r == -EINVAL && !s->parse.expected) {
        s->parse.rest = before;
        return seqset_refuse(s);
    }
    return r;
}

static int parse_children(struct search *q, struct search_key *key, unsigned count, unsigned depth)
{
    struct search_key **tail = &key->child;
    int r = 0;

    for (unsigned n = 0; n < count && r >= 0; n++) {
        r = parse_space(&q->s->parse);
        if (r >= 0)
            r = parse_key(q, depth + 1, tail);
        if (r >= 0)
            tail = &(*tail)->next;
    }
    return r;
}

/* NEW is RECENT UNSEEN. */
static int make_new(struct search *q, struct search_key **key)
{
    struct search_key *both = new_key(q, SEARCH_AND), *seen = new_key(q, SEARCH_FLAG);
    int r;

    if (!both || !seen)
        return -EMSGSIZE;
    seen->flag = MBOX_SEEN;
    r = negate(q, &seen);
    if (r < 0)
        return r;
    both->child = *key;
    (*key)->next = seen;
    *key = both;
    return 0;
}

/* SP [entry-name SP entry-type-req SP] mod-sequence-valzer (RFC 7162 3.1.5). We keep one mod-sequence per message, so
 * the entry does not matter. */
static int parse_modseq(struct search *q, struct search_key *key)
{
    struct parse *p = &q->s->parse;
    struct str entry;
    int r = parse_space(p);

    q->has_modseq = true;
    if (r >= 0 && parse_peek(p) == '"') {
        r = parse_string(p, "an entry name", &entry);
        if (r >= 0)
            r = parse_space(p);
        if (r >= 0 && !parse_accept_word(p, STR("priv")) && !parse_accept_word(p, STR("shared")) &&
            !parse_accept_word(p, STR("all")))
            r = parse_fail(p, "priv, shared or all");
        if (r >= 0)
            r = parse_space(p);
    }
    return r < 0 ? r : condstore_parse_modseq(q->s, &key->number);
}

static int parse_arguments(struct search *q, enum argument argument, unsigned depth, struct search_key **key)
{
    struct parse *p = &q->s->parse;
    struct search_key *k = *key;
    uint32_t seconds = 0;
    int r;

    switch (argument) {
    case ARG_NONE:
    case ARG_FLAG:
        return 0;
    case ARG_NOT_FLAG:
    case ARG_OLD:
        return negate(q, key);
    case ARG_NEW:
        return make_new(q, key);
    case ARG_NUMBER:
        r = parse_space(p);
        return r < 0 ? r : parse_number64(p, "a number of octets", &k->number);
    case ARG_DATE:
        r = parse_space(p);
        return r < 0 ? r : parse_date(p, &k->day);
    case ARG_TEXT:
    case ARG_FIELD:
        return parse_text(q, &k->text);
    case ARG_HEADER:
        r = parse_space(p);
        if (r >= 0)
            r = parse_astring(p, "the name of a header field", &k->field);
        return r < 0 ? r : parse_text(q, &k->text);
    case ARG_KEYWORD:
        return parse_keyword(q, k);
    case ARG_NOT_KEYWORD:
        r = parse_keyword(q, k);
        return r < 0 ? r : negate(q, key);
    case ARG_KEY:
        return parse_children(q, k, 1, depth);
    case ARG_TWO_KEYS:
        return parse_children(q, k, 2, depth);
    case ARG_UIDS:
        r = parse_space(p);
        return r < 0 ? r : parse_set(q, true, k);
    case ARG_INTERVAL:
        r = parse_space(p);
        if (r >= 0)
            r = parse_nz_number(p, "a number of seconds", &seconds);
        k->number = seconds;
        return r;
    case ARG_MODSEQ:
        return parse_modseq(q, k);
    case ARG_OBJECT_ID:
        r = parse_space(p);
        return r < 0 ? r : parse_astring(p, "an object id", &k->text);
    }
    return -EINVAL;
}

/* search-key *(SP search-key), up to `end` (a parenthesis, or 0 for the end of the command). */
static int parse_list(struct search *q, char end, unsigned depth, struct search_key **ret)
{
    struct parse *p = &q->s->parse;
    struct search_key *all = new_key(q, SEARCH_AND), **tail;
    int r;

    if (!all)
        return -EMSGSIZE;
    tail = &all->child;
    do {
        r = parse_key(q, depth, tail);
        if (r < 0)
            return r;
        tail = &(*tail)->next;
    } while (parse_accept(p, ' ') && !parse_at_end(p));
    *ret = all;
    return end ? parse_char(p, end, "a space or a closing parenthesis") : parse_end(p);
}

static int parse_key(struct search *q, unsigned depth, struct search_key **ret)
{
    struct parse *p = &q->s->parse;
    char c = parse_peek(p);
    struct search_key *key;
    int r;

    if (depth > LIMIT_SEARCH_DEPTH)
        return parse_fail(p, "fewer nested search keys");
    if (parse_accept(p, '('))
        return parse_list(q, ')', depth + 1, ret);
    if (ascii_is_digit(c) || c == '*' || c == '$') {
        key = *ret = new_key(q, SEARCH_SEQUENCE);
        return key ? parse_set(q, false, key) : -EMSGSIZE;
    }
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (!parse_accept_word(p, str_from(names[i].name)))
            continue;
        key = *ret = new_key(q, names[i].kind);
        if (!key)
            return -EMSGSIZE;
        key->flag = names[i].flag;
        if (names[i].argument == ARG_FIELD)
            key->field = str_from(names[i].name);
        r = parse_arguments(q, names[i].argument, depth, ret);
        return r;
    }
    return parse_fail(p, "a search key");
}

int search_parse(struct search *q)
{
    return parse_list(q, '\0', 0, &q->root);
}
