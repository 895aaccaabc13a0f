/*
 * QUIT, the UPDATE state (see session.h; RFC 1939 6). Runs in pop3-session as the user.
 */
#include <errno.h>

#include "handlers/pop3/session.h"
#include "shared/base/log.h"

/* The UIDs of messages with all of the marks `with` and none of `without`. */
static int collect(struct pop3 *s, uint8_t with, uint8_t without, struct numset *ret)
{
    uint32_t count = mbox_count(s->box);
    struct mbox_info info;
    int r = 0;

    for (uint32_t seq = 1; seq <= count && r >= 0; seq++) {
        if ((s->marks[seq - 1] & with) != with || (s->marks[seq - 1] & without))
            continue;
        r = mbox_info(s->box, seq, &info);
        if (r >= 0)
            r = numset_add(ret, info.uid, info.uid);
    }
    return r;
}

/* What was read and stays is \Seen, for the user's other programs and for LAST of the next session. */
static int remember_seen(struct pop3 *s)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    struct mbox_flags seen = {.system = MBOX_SEEN};
    int r = collect(s, POP3_RETRIEVED, POP3_DELETED, &uids);

    if (r < 0 || !uids.count)
        return r;
    return mbox_set_flags(s->box, &uids, MBOX_FLAGS_ADD, seen, UINT64_MAX, NULL);
}

/* One expunge for all; durable when it returns 0. */
static int remove_marked(struct pop3 *s)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    _cleanup_numset_ struct numset removed = NUMSET_INIT;
    int r = collect(s, POP3_DELETED, 0, &uids);

    if (r < 0 || !uids.count)
        return r;
    r = mbox_remove(s->box, &uids, &removed);
    if (r >= 0)
        s->count.removed = numset_size(&removed);
    return r;
}

int pop3_quit(void *session, struct str arguments)
{
    struct pop3 *s = session;
    int r = pop3_no_more(s, arguments, "QUIT"), e;

    if (r)
        return r;
    e = remember_seen(s);
    if (e < 0)
        LOG_ERROR(LOG_WARNING, "flags", e);
    r = remove_marked(s);
    if (r >= 0) {
        s->is_leaving = true;
        s->end = "quit";
        return pop3_ok(s, "Good bye, %llu deleted, %u left", (unsigned long long)s->count.removed,
                       mbox_count(s->box) - s->deleted);
    }
    LOG_ERROR(LOG_ERR, "expunge", r);
    (void)pop3_store_err(s, r);
    (void)writer_flush(&s->out);
    return r;
}
