/*
 * FETCH and UID FETCH (RFC 9051 6.4.5). Runs in imap-session as the user.
 */
#include <errno.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/fetch.h"
#include "handlers/imap/qresync.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/seqset.h"
#include "handlers/imap/update.h"

/* Messages whose \Seen is stored in one go. If the connection breaks, at most so many are marked as read and were not
 * sent; one at a time would cost an fsync for each message of a mailbox. */
#define SEEN_BATCH 128u

/* Sets \Seen on those of messages first to last that lack it and are going to be sent; *ret_changed: their UIDs. */
static int mark_seen(struct fetch *f, uint32_t first, uint32_t last, struct numset *ret_changed)
{
    const struct mbox_flags seen = {.system = MBOX_SEEN};
    struct imap *s = f->s;

    numset_clear(ret_changed);
    for (uint32_t seq = first; seq <= last; seq++) {
        struct mbox_info info;
        int r = mbox_info(s->box, seq, &info);

        if (r >= 0 && !info.is_expunged && !(info.flags.system & MBOX_SEEN) && fetch_is_wanted(f, &info))
            r = numset_add(ret_changed, info.uid, info.uid);
        if (r < 0)
            return r;
    }
    if (ret_changed->count == 0)
        return 0;
    return mbox_set_flags(s->box, ret_changed, MBOX_FLAGS_ADD, seen, UINT64_MAX, NULL);
}

/* Answers for messages first to last; with sets_seen they are marked before, batch by batch, so that the response shows
 * the new flags (RFC 9051 6.4.5). *ret_seen keeps the first error of that. */
static int fetch_range(struct fetch *f, uint32_t first, uint32_t last, int *ret_seen)
{
    _cleanup_numset_ struct numset changed = NUMSET_INIT;
    bool sets_seen = f->sets_seen && !mbox_is_readonly(f->s->box);
    int r = 0;

    for (uint32_t seq = first; seq <= last && r >= 0; seq++) {
        struct mbox_info info;

        if (sets_seen && (seq - first) % SEEN_BATCH == 0) {
            uint32_t end = last - seq < SEEN_BATCH ? last : seq + SEEN_BATCH - 1;
            int e = mark_seen(f, seq, end, &changed);

            if (e < 0) {
                numset_clear(&changed);
                *ret_seen = *ret_seen ? *ret_seen : e;
            }
        }
        r = fetch_respond(f, seq,
                          changed.count > 0 && mbox_info(f->s->box, seq, &info) >= 0 && numset_has(&changed, info.uid));
    }
    return r;
}

/* VANISHED (EARLIER) comes before every FETCH response (RFC 7162 3.2.6). */
static int tell_vanished(struct fetch *f, struct str set)
{
    _cleanup_numset_ struct numset named = NUMSET_INIT;
    int r = str_eq(set, STR("$")) ? numset_add_set(&named, &f->s->saved) : seqset_named_uids(f->s, set, &named);

    return r < 0 ? r : qresync_vanished(f->s, f->changed_since, &named, 0);
}

int cmd_fetch(void *session, struct str arguments)
{
    struct imap *s = session;
    _cleanup_numset_ struct numset seqs = NUMSET_INIT, page = NUMSET_INIT;
    const struct numset *wanted = &seqs;
    struct fetch f = {.s = s};
    struct str set = STR("");
    int seen = 0, r = parse_space(&s->parse);

    if (r >= 0) {
        set = s->parse.rest;
        r = seqset_parse(s, &seqs);
        set.len -= s->parse.rest.len;
    }
    if (r >= 0)
        r = parse_space(&s->parse);
    if (r >= 0)
        r = fetch_parse(&f);
    if (r >= 0)
        r = fetch_parse_modifiers(&f);
    if (r >= 0)
        r = parse_end(&s->parse);
    if (r < 0)
        return r;
    if (f.partial.is_wanted) {
        wanted = &page;
        r = partial_take(&f.partial, &seqs, &page);
        if (r < 0)
            return respond_error(s, r, "Cannot fetch");
    }
    if (f.has_modseq || f.has_changed_since)
        condstore_enable(s);
    if (f.wants_vanished) {
        r = tell_vanished(&f, set);
        if (r < 0)
            return respond_error(s, r, "Cannot tell what vanished");
    }
    message_init(&f.message, s);
    for (size_t i = 0; i < wanted->count && r >= 0; i++)
        r = fetch_range(&f, wanted->ranges[i].first, wanted->ranges[i].last, &seen);
    message_finish(&f.message);
    if (r < 0)
        return r;
    if (f.error == -ESTALE) {
        respond_code(s, "EXPUNGEISSUED");
        return respond_no(s, "Some of the messages are no longer there");
    }
    if (f.error < 0)
        return respond_error(s, f.error, "Cannot fetch all of it");
    if (f.is_unknown_cte) {
        respond_code(s, "UNKNOWN-CTE");
        return respond_no(s, "A part has a content transfer encoding that is not known here");
    }
    return seen < 0 ? respond_error(s, seen, "Cannot mark as seen") : OUTCOME_OK;
}
