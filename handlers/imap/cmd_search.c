/*
 * SEARCH and UID SEARCH (RFC 9051 6.4.4) with their extended form (RFC 4731) and its saved result (RFC 5182). Runs in
 * imap-session as the user.
 */
#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/qresync.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/search.h"
#include "handlers/imap/seqset.h"
#include "shared/mime/charset.h"

enum {
    RETURN_MIN = 1u << 0,
    RETURN_MAX = 1u << 1,
    RETURN_ALL = 1u << 2,
    RETURN_COUNT = 1u << 3,
    RETURN_SAVE = 1u << 4,
};

struct result {
    bool is_extended;
    unsigned returns;
    struct numset found; /* sequence numbers */
    bool has_modseq;
    uint64_t modseq; /* the highest of what is returned */
};

/* "RETURN" SP "(" [option *(SP option)] ")" SP */
static int parse_return(struct imap *s, struct result *result)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {
        {"MIN", RETURN_MIN}, {"MAX", RETURN_MAX}, {"ALL", RETURN_ALL}, {"COUNT", RETURN_COUNT}, {"SAVE", RETURN_SAVE},
    };
    struct parse *p = &s->parse;
    int r = parse_space(p);

    result->is_extended = true;
    if (r >= 0)
        r = parse_char(p, '(', "a parenthesised list of result options");
    while (r >= 0 && !parse_accept(p, ')')) {
        size_t i = 0;

        while (i < sizeof(names) / sizeof(names[0]) && !parse_accept_word(p, str_from(names[i].name)))
            i++;
        if (i == sizeof(names) / sizeof(names[0]))
            return parse_fail(p, "MIN, MAX, ALL, COUNT or SAVE");
        result->returns |= names[i].bit;
        if (parse_peek(p) != ')' && !parse_accept(p, ' '))
            return parse_fail(p, "a space or a closing parenthesis");
    }
    /* RFC 4731 3.1: no option at all means ALL. */
    if (result->returns == 0)
        result->returns = RETURN_ALL;
    return r < 0 ? r : parse_space(p);
}

/* "CHARSET" SP charset SP. 0, a negative errno, or OUTCOME_NO with [BADCHARSET]. */
static int parse_charset(struct imap *s, struct search *q)
{
    struct str name;
    int r = parse_space(&s->parse);

    if (r >= 0)
        r = parse_astring(&s->parse, "the name of a character set", &name);
    if (r >= 0)
        r = parse_space(&s->parse);
    if (r < 0)
        return r;
    if (!charset_is_known(name)) {
        respond_code(s, "BADCHARSET (US-ASCII UTF-8 ISO-8859-1 WINDOWS-1252)");
        return respond_no(s, "The character set is not known here");
    }
    if (!str_ieq(name, STR("US-ASCII")) && !str_ieq(name, STR("UTF-8")))
        q->charset = name;
    return 0;
}

static int find(struct imap *s, struct search *q, struct numset *ret)
{
    int r = 0;

    search_order(q->root);
    for (uint32_t seq = 1, count = mbox_count(s->box); seq <= count && r >= 0; seq++) {
        bool is_match = false;

        r = search_match(q, seq, &is_match);
        if (r >= 0 && is_match)
            r = numset_add(ret, seq, seq);
    }
    return r;
}

/* `$` (RFC 5182 2.1): all of them, or with MIN or MAX alone those two. */
static int save(struct imap *s, const struct result *result, const struct numset *uids)
{
    numset_clear(&s->saved);
    if (uids->count == 0)
        return 0;
    if ((result->returns & (RETURN_ALL | RETURN_COUNT)) || !(result->returns & (RETURN_MIN | RETURN_MAX)))
        return numset_add_set(&s->saved, uids);

    uint32_t min = uids->ranges[0].first, max = uids->ranges[uids->count - 1].last;
    int r = result->returns & RETURN_MIN ? numset_add(&s->saved, min, min) : 0;

    if (r >= 0 && (result->returns & RETURN_MAX))
        r = numset_add(&s->saved, max, max);
    return r;
}

/* The highest mod-sequence of what is returned; with MIN or MAX alone, of those (RFC 4731 3.2). */
static int highest_modseq(struct imap *s, struct result *result)
{
    bool is_all = !result->is_extended || (result->returns & (RETURN_ALL | RETURN_COUNT | RETURN_SAVE));
    const struct numset *found = &result->found;
    uint32_t min, max;

    if (found->count == 0)
        return 0;
    min = found->ranges[0].first;
    max = found->ranges[found->count - 1].last;
    for (size_t i = 0; i < found->count; i++) {
        for (uint32_t seq = found->ranges[i].first; seq <= found->ranges[i].last; seq++) {
            struct mbox_info info;
            int r = mbox_info(s->box, seq, &info);

            if (r < 0)
                return r;
            if (is_all || (seq == min && (result->returns & RETURN_MIN)) ||
                (seq == max && (result->returns & RETURN_MAX)))
                result->modseq = info.modseq > result->modseq ? info.modseq : result->modseq;
        }
    }
    return 0;
}

/* esearch-response (RFC 4466 2.6.2, RFC 9051 7.3.4) */
static void write_extended(struct imap *s, const struct result *result, const struct numset *found)
{
    unsigned returns = result->is_extended ? result->returns : RETURN_ALL;

    (void)writer_text(&s->out, "* ESEARCH (TAG ");
    respond_string(s, str_from(s->tag));
    (void)writer_text(&s->out, s->is_uid ? ") UID" : ")");
    if (found->count > 0) {
        if (returns & RETURN_MIN)
            (void)writer_printf(&s->out, " MIN %" PRIu32, found->ranges[0].first);
        if (returns & RETURN_MAX)
            (void)writer_printf(&s->out, " MAX %" PRIu32, found->ranges[found->count - 1].last);
        if (returns & RETURN_ALL) {
            (void)writer_text(&s->out, " ALL ");
            respond_numset(s, found);
        }
    }
    if (returns & RETURN_COUNT)
        (void)writer_printf(&s->out, " COUNT %" PRIu64, numset_size(found));
    if (result->has_modseq && found->count > 0)
        (void)writer_printf(&s->out, " MODSEQ %" PRIu64, result->modseq);
    (void)writer_text(&s->out, "\r\n");
}

static void write_plain(struct imap *s, const struct result *result, const struct numset *found)
{
    (void)writer_text(&s->out, "* SEARCH");
    for (size_t i = 0; i < found->count; i++) {
        for (uint32_t n = found->ranges[i].first;; n++) {
            (void)writer_add(&s->out, " ", 1);
            (void)writer_u64(&s->out, n);
            if (n == found->ranges[i].last)
                break;
        }
    }
    /* RFC 7162 3.1.6 */
    if (result->has_modseq && found->count > 0)
        (void)writer_printf(&s->out, " (MODSEQ %" PRIu64 ")", result->modseq);
    (void)writer_text(&s->out, "\r\n");
}

static int answer(struct imap *s, struct result *result)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    const struct numset *found = &result->found;
    int r = 0;

    if (s->is_uid || (result->returns & RETURN_SAVE))
        r = seqset_uids(s, &result->found, &uids);
    if (r >= 0 && (result->returns & RETURN_SAVE))
        r = save(s, result, &uids);
    if (r >= 0 && result->has_modseq)
        r = highest_modseq(s, result);
    if (r < 0)
        return r;
    if (s->is_uid)
        found = &uids;
    /* RFC 9051 6.4.4: IMAP4rev2 knows only the extended response. RFC 5182 2.1: SAVE alone returns nothing. */
    if (!result->is_extended && !(s->enabled & IMAP_REV2))
        write_plain(s, result, found);
    else if (result->returns != RETURN_SAVE)
        write_extended(s, result, found);
    return OUTCOME_OK;
}

static int search_command(struct imap *s, struct search *q, struct result *result)
{
    int r = parse_space(&s->parse);

    if (r >= 0 && parse_accept_word(&s->parse, STR("RETURN")))
        r = parse_return(s, result);
    if (r >= 0 && parse_accept_word(&s->parse, STR("CHARSET")))
        r = parse_charset(s, q);
    if (r == 0)
        r = search_parse(q);
    if (r != 0)
        return r;
    result->has_modseq = q->has_modseq;
    if (q->has_modseq)
        condstore_enable(s);
    r = find(s, q, &result->found);
    if (r >= 0)
        r = answer(s, result);
    if (r >= 0)
        return r;
    /* RFC 5182 2.1: a SEARCH with SAVE that fails empties the saved result. */
    if (result->returns & RETURN_SAVE)
        numset_clear(&s->saved);
    return respond_error(s, r, "Cannot search");
}

int cmd_search(void *session, struct str arguments)
{
    struct imap *s = session;
    struct result result = {.found = NUMSET_INIT};
    struct search q;
    int r;

    search_init(&q, s);
    r = search_command(s, &q, &result);
    search_finish(&q);
    numset_finish(&result.found);
    return r;
}
