/*
 * SEARCH and UID SEARCH (RFC 9051 6.4.4) with their extended form (RFC 4731) and its saved result (RFC 5182). Runs in
 * imap-session as the user.
 */
#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/search_result.h"
#include "handlers/imap/seqset.h"

/* "CHARSET" SP charset SP. 0, a negative errno, or OUTCOME_NO with [BADCHARSET]. */
static int parse_charset(struct imap *s, struct search *q)
{
    struct str before = s->parse.rest, name;
    int r = parse_space(&s->parse);

    if (r >= 0)
        r = parse_astring(&s->parse, "the name of a character set", &name);
    if (r >= 0)
        r = parse_space(&s->parse);
    /* RFC 6855 3: after ENABLE UTF8=ACCEPT every string is UTF-8. */
    if (r >= 0 && (s->enabled & IMAP_UTF8)) {
        s->parse.rest = before;
        return parse_fail(&s->parse, "no CHARSET after ENABLE UTF8=ACCEPT");
    }
    return r < 0 ? r : search_set_charset(q, name);
}

/* esearch-response (RFC 4466 2.6.2, RFC 9051 7.3.4) */
static void write_extended(struct imap *s, const struct search_result *result, const struct numset *found,
                           const struct numset *page)
{
    unsigned returns = result->is_extended ? result->returns : RETURN_ALL;

    search_write_esearch(s);
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
    if (returns & RETURN_PARTIAL) {
        (void)writer_printf(&s->out, " PARTIAL (%.*s ", STR_ARG(result->partial.text));
        if (page->count > 0)
            respond_numset(s, page);
        (void)writer_text(&s->out, page->count > 0 ? ")" : "NIL)");
    }
    if (returns & RETURN_COUNT)
        (void)writer_printf(&s->out, " COUNT %" PRIu64, numset_size(found));
    if (result->has_modseq && found->count > 0)
        (void)writer_printf(&s->out, " MODSEQ %" PRIu64, result->modseq);
    (void)writer_text(&s->out, "\r\n");
}

static void write_plain(struct imap *s, const struct search_result *result, const struct numset *found)
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

static int answer(struct imap *s, struct search_result *result)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT, page_uids = NUMSET_INIT;
    const struct numset *found = &result->found;
    int r = result->partial.is_wanted ? partial_take(&result->partial, found, &result->page) : 0;

    if (r >= 0 && s->is_uid)
        r = seqset_uids(s, &result->page, &page_uids);
    if (r >= 0 && (s->is_uid || (result->returns & RETURN_SAVE)))
        r = seqset_uids(s, &result->found, &uids);
    if (r >= 0 && uids.count > 0)
        r = search_save(s, result, &uids, uids.ranges[0].first, uids.ranges[uids.count - 1].last);
    else if (r >= 0)
        r = search_save(s, result, &uids, 0, 0);
    if (r >= 0 && found->count > 0)
        r = search_highest_modseq(s, result, found->ranges[0].first, found->ranges[found->count - 1].last);
    if (r < 0)
        return r;
    if (s->is_uid)
        found = &uids;
    /* RFC 9051 6.4.4: IMAP4rev2 knows only the extended response. RFC 5182 2.1: SAVE alone returns nothing. */
    if (!result->is_extended && !(s->enabled & IMAP_REV2))
        write_plain(s, result, found);
    else if (result->returns != RETURN_SAVE)
        write_extended(s, result, found, s->is_uid ? &page_uids : &result->page);
    return OUTCOME_OK;
}

static int search_command(struct imap *s, struct search *q, struct search_result *result)
{
    int r = parse_space(&s->parse);

    if (r >= 0 && parse_accept_word(&s->parse, STR("RETURN")))
        r = search_parse_return(s, result);
    if (r >= 0 && parse_accept_word(&s->parse, STR("CHARSET")))
        r = parse_charset(s, q);
    if (r == 0)
        r = search_parse(q);
    if (r == 0) {
        q->progress.goal = mbox_count(s->box);
        r = search_run(q, result);
        if (r >= 0)
            r = answer(s, result);
        if (r < 0)
            r = respond_error(s, r, "Cannot search");
    }
    search_unsave(s, result, r);
    return r;
}

int cmd_search(void *session, struct str arguments)
{
    struct imap *s = session;
    struct search_result result = {.is_extended = false};
    struct search q;
    int r;

    search_init(&q, s);
    r = search_command(s, &q, &result);
    search_finish(&q);
    search_finish_result(&result);
    return r;
}
