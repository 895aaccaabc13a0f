/*
 * STORE and UID STORE (RFC 9051 6.4.6). Runs in imap-session as the user.
 */
#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/flags.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/seqset.h"
#include "handlers/imap/update.h"

struct store {
    enum mbox_flags_mode mode;
    bool is_silent;
    struct flag_list flags;
};

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

/* The untagged FETCH responses: the new flags of every message named, or with .SILENT none. */
static void tell(struct imap *s, const struct numset *seqs)
{
    for (size_t i = 0; i < seqs->count; i++)
        for (uint32_t seq = seqs->ranges[i].first; seq <= seqs->ranges[i].last; seq++)
            update_fetch_flags(s, seq, s->is_uid, false);
}

int cmd_store(void *session, struct str arguments)
{
    struct imap *s = session;
    _cleanup_numset_ struct numset seqs = NUMSET_INIT, uids = NUMSET_INIT;
    struct store store = {.is_silent = false};
    struct mbox_flags flags;
    int r = parse_space(&s->parse);

    if (r >= 0)
        r = seqset_parse(s, &seqs);
    if (r >= 0)
        r = parse_space(&s->parse);
    if (r >= 0)
        r = parse_store(s, &store);
    if (r >= 0)
        r = seqset_uids(s, &seqs, &uids);
    if (r < 0)
        return r;
    if (mbox_is_readonly(s->box))
        return respond_error(s, -EROFS, "Cannot store flags");
    r = flags_resolve(s, &store.flags, store.mode != MBOX_FLAGS_REMOVE, &flags);
    if (r == -ENOSPC) {
        respond_code(s, "LIMIT");
        return respond_no(s, "The mailbox has as many keywords as it can have");
    }
    if (r >= 0 && uids.count > 0)
        r = mbox_set_flags(s->box, &uids, store.mode, flags, UINT64_MAX, NULL);
    if (r < 0)
        return respond_error(s, r, "Cannot store flags");
    update_keywords(s);
    if (!store.is_silent)
        tell(s, &seqs);
    return OUTCOME_OK;
}
