/*
 * STORE and UID STORE (RFC 9051 6.4.6). Runs in imap-session as the user.
 */
#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/flags.h"
#include "handlers/imap/qresync.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/seqset.h"
#include "handlers/imap/update.h"

struct store {
    bool is_conditional; /* UNCHANGEDSINCE */
    uint64_t unchanged_since;
    enum mbox_flags_mode mode;
    bool is_silent;
    struct flag_list flags;
};

/* ["(" "UNCHANGEDSINCE" SP modseq ")" SP] (RFC 7162 3.1.3) */
static int parse_modifiers(struct imap *s, struct store *ret)
{
    struct parse *p = &s->parse;
    int r;

    ret->unchanged_since = UINT64_MAX;
    if (!parse_accept(p, '('))
        return 0;
    if (!parse_accept_word(p, STR("UNCHANGEDSINCE")))
        return parse_fail(p, "UNCHANGEDSINCE");
    ret->is_conditional = true;
    r = parse_space(p);
    if (r >= 0)
        r = condstore_parse_modseq(s, &ret->unchanged_since);
    if (r >= 0)
        r = parse_char(p, ')', "a closing parenthesis");
    return r < 0 ? r : parse_space(p);
}

/* store-att-flags = (["+" / "-"] "FLAGS" [".SILENT"]) SP (flag-list / (flag *(SP flag))) */
static int parse_store(struct imap *s, struct store *ret)
{
    struct parse *p = &s->parse;
    int r;

    ret->mode = parse_accept(p, '+') ? MBOX_FLAGS_ADD : parse_accept(p, '-') ? MBOX_FLAGS_REMOVE : MBOX_FLAGS_SET;
    ret->is_silent = parse_accept_word(p, STR("FLAGS.SILENT"));
    if (!ret->is_silent && !parse_accept_word(p, STR("FLAGS")))
        return parse_fail(p, "FLAGS, +FLAGS, -FLAGS, with .SILENT if wanted");
    r = parse_space(p);
    if (r >= 0)
        r = flags_parse(s, false, &ret->flags);
    return r < 0 ? r : parse_end(p);
}

/* The UIDs of messages that had changed before the client selected the mailbox, and it does not know it. A new
 * mod-sequence alone would make it believe that it does (RFC 7162 3.1.3, example 10). What has changed in this session
 * and is not told yet comes with the updates. */
static int find_newer(struct imap *s, const struct store *store, const struct numset *seqs, struct numset *ret)
{
    struct mbox_status told;
    int e = mbox_view_status(s->box, &told);

    if (e < 0)
        return e;
    for (size_t i = 0; i < seqs->count && store->is_conditional; i++) {
        for (uint32_t seq = seqs->ranges[i].first; seq <= seqs->ranges[i].last; seq++) {
            struct mbox_info info;
            int r = mbox_info(s->box, seq, &info);

            if (r >= 0 && info.modseq > store->unchanged_since && info.modseq <= told.highestmodseq)
                r = numset_add(ret, info.uid, info.uid);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

/* The untagged FETCH responses: the new flags of every message that was changed; with .SILENT none, or for clients that
 * know of mod-sequences only those, where there is no more to tell (RFC 7162 3.1.3). *ret_is_missing: some of them are
 * gone. */
static void tell(struct imap *s, const struct store *store, const struct numset *seqs, const struct numset *newer,
                 const struct numset *modified, bool *ret_is_missing)
{
    bool has_modseq = (s->enabled & IMAP_CONDSTORE) != 0;

    for (size_t i = 0; i < seqs->count && (!store->is_silent || has_modseq); i++) {
        for (uint32_t seq = seqs->ranges[i].first; seq <= seqs->ranges[i].last; seq++) {
            struct mbox_info info;

            if (mbox_info(s->box, seq, &info) < 0 || (numset_has(modified, info.uid) && !numset_has(newer, info.uid)))
                continue;
            *ret_is_missing = *ret_is_missing || info.is_expunged;
            if (info.is_expunged)
                continue;
            if (store->is_silent && !numset_has(newer, info.uid)) {
                respond_fetch(s, seq, info.uid);
                if (!(s->enabled & IMAP_UIDONLY))
                    (void)writer_printf(&s->out, "UID %" PRIu32 " ", info.uid);
                (void)writer_printf(&s->out, "MODSEQ (%" PRIu64 "))\r\n", info.modseq);
            } else {
                update_fetch_flags(s, seq, s->is_uid || has_modseq, has_modseq);
            }
        }
    }
}

/* The MODIFIED response code: what failed the test, as UIDs or as sequence numbers (RFC 7162 3.1.3). */
static int tell_modified(struct imap *s, const struct numset *modified)
{
    _cleanup_numset_ struct numset seqs = NUMSET_INIT;
    struct buf *code = &s->reply_code;
    int r = s->is_uid ? 0 : seqset_from_uids(s, modified, &seqs);

    respond_code(s, "MODIFIED ");
    if (r >= 0)
        r = numset_print(s->is_uid ? modified : &seqs, code);
    if (r < 0)
        buf_clear(code);
    return respond_ok(s, "Messages that changed meanwhile were left alone");
}

static int store_flags(struct imap *s, const struct store *store, const struct numset *seqs)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT, newer = NUMSET_INIT, modified = NUMSET_INIT;
    struct mbox_flags flags;
    bool is_missing = false;
    int r = seqset_uids(s, seqs, &uids);

    if (r >= 0)
        r = find_newer(s, store, seqs, &newer);
    if (r < 0)
        return r;
    r = flags_resolve(s, &store->flags, store->mode != MBOX_FLAGS_REMOVE, &flags);
    if (r == -ENOSPC) {
        respond_code(s, "LIMIT");
        return respond_no(s, "The mailbox has as many keywords as it can have");
    }
    if (r >= 0 && uids.count > 0)
        r = mbox_set_flags(s->box, &uids, store->mode, flags, store->unchanged_since, &modified);
    if (r < 0)
        return respond_error(s, r, "Cannot store flags");
    update_keywords(s, flags.keywords);
    tell(s, store, seqs, &newer, &modified, &is_missing);
    if (modified.count > 0)
        return tell_modified(s, &modified);
    /* RFC 2180 4.2: what is there was changed; only who wants to know the new flags hears of what is not. RFC
     * 9051 6.4.9: a UID that is gone is ignored. */
    if (is_missing && !store->is_silent && !s->is_uid) {
        respond_code(s, "EXPUNGEISSUED");
        return respond_no(s, "Some of the messages are no longer there");
    }
    return OUTCOME_OK;
}

int cmd_store(void *session, struct str arguments)
{
    struct imap *s = session;
    _cleanup_numset_ struct numset seqs = NUMSET_INIT;
    struct store store = {.is_silent = false};
    int r = parse_space(&s->parse);

    if (r >= 0)
        r = seqset_parse(s, &seqs);
    if (r >= 0)
        r = parse_space(&s->parse);
    if (r >= 0)
        r = parse_modifiers(s, &store);
    if (r >= 0)
        r = parse_store(s, &store);
    if (r < 0)
        return r;
    if (mbox_is_readonly(s->box))
        return respond_error(s, -EROFS, "Cannot store flags");
    if (store.is_conditional)
        condstore_enable(s);
    return store_flags(s, &store, &seqs);
}
