/*
 * The common frame of SEARCH, SORT and THREAD (see search_result.h). Runs in imap-session as the user.
 */
#include "handlers/imap/search_result.h"

#include <errno.h>

#include "handlers/imap/qresync.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/seqset.h"
#include "shared/base/macros.h"
#include "shared/mime/charset.h"

int search_parse_return(struct imap *s, struct search_result *result)
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

        while (i < ARRAY_SIZE(names) && !parse_accept_word(p, str_from(names[i].name)))
            i++;
        if (i < ARRAY_SIZE(names)) {
            result->returns |= names[i].bit;
        } else if (!result->partial.is_wanted && parse_accept_word(p, STR("PARTIAL"))) {
            result->returns |= RETURN_PARTIAL;
            r = partial_parse(p, &result->partial);
        } else {
            return parse_fail(p, "MIN, MAX, ALL, COUNT, SAVE or one PARTIAL");
        }
        if (r < 0)
            return r;
        /* RFC 9394 3.1 */
        if ((result->returns & RETURN_ALL) && (result->returns & RETURN_PARTIAL))
            return parse_fail(p, "ALL or PARTIAL, not both");
        if (parse_peek(p) != ')' && !parse_accept(p, ' '))
            return parse_fail(p, "a space or a closing parenthesis");
    }
    /* RFC 4731 3.1: no option at all means ALL. */
    if (result->returns == 0)
        result->returns = RETURN_ALL;
    return r < 0 ? r : parse_space(p);
}

int search_set_charset(struct search *q, struct str name)
{
    if (!charset_is_known(name)) {
        respond_code(q->s, "BADCHARSET (US-ASCII UTF-8 ISO-8859-1 WINDOWS-1252)");
        return respond_no(q->s, "The character set is not known here");
    }
    q->has_charset = true;
    if (!str_ieq(name, STR("US-ASCII")) && !str_ieq(name, STR("UTF-8")))
        q->charset = name;
    return 0;
}

int search_run(struct search *q, struct search_result *result)
{
    int r = 0;

    result->has_modseq = q->has_modseq;
    if (q->has_modseq)
        condstore_enable(q->s);
    search_order(q->root);
    for (uint32_t seq = 1, count = mbox_count(q->s->box); seq <= count && r >= 0; seq++) {
        bool is_match = false;

        r = progress_go_on(&q->progress, seq - 1);
        if (r >= 0)
            r = search_match(q, seq, &is_match);
        if (r >= 0 && is_match)
            r = numset_add(&result->found, seq, seq);
    }
    return r;
}

int search_highest_modseq(struct imap *s, struct search_result *result, uint32_t first, uint32_t last)
{
    bool is_all = !result->is_extended || (result->returns & (RETURN_ALL | RETURN_COUNT));
    const struct numset *found = &result->found;

    for (size_t i = 0; i < found->count && result->has_modseq; i++) {
        for (uint32_t seq = found->ranges[i].first; seq <= found->ranges[i].last; seq++) {
            bool is_wanted = is_all || (seq == first && (result->returns & RETURN_MIN)) ||
                             (seq == last && (result->returns & RETURN_MAX)) || numset_has(&result->page, seq);
            struct mbox_info info;
            int r = mbox_info(s->box, seq, &info);

            if (r < 0)
                return r;
            if (is_wanted && info.modseq > result->modseq)
                result->modseq = info.modseq;
        }
    }
    return 0;
}

int search_save(struct imap *s, const struct search_result *result, const struct numset *uids, uint32_t min,
                uint32_t max)
{
    int r = 0;

    if (!(result->returns & RETURN_SAVE))
        return 0;
    numset_clear(&s->saved);
    if (uids->count == 0)
        return 0;
    if ((result->returns & (RETURN_ALL | RETURN_COUNT)) || result->returns == RETURN_SAVE)
        return numset_add_set(&s->saved, uids);
    if (result->returns & RETURN_MIN)
        r = numset_add(&s->saved, min, min);
    if (r >= 0 && (result->returns & RETURN_MAX))
        r = numset_add(&s->saved, max, max);
    return r < 0 ? r : seqset_uids(s, &result->page, &s->saved);
}

void search_unsave(struct imap *s, const struct search_result *result, int outcome)
{
    bool is_no = outcome == OUTCOME_NO || outcome == -EMSGSIZE || outcome == -ENOMEM || outcome == -ENOBUFS;

    if (is_no && (result->returns & RETURN_SAVE))
        numset_clear(&s->saved);
}

void search_finish_result(struct search_result *result)
{
    numset_finish(&result->found);
    numset_finish(&result->page);
}

void search_write_esearch(struct imap *s)
{
    (void)writer_text(&s->out, "* ESEARCH (TAG ");
    respond_string(s, str_from(s->tag));
    (void)writer_text(&s->out, s->is_uid ? ") UID" : ")");
}
