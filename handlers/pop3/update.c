/*
 * QUIT, the UPDATE state (see session.h; RFC 1939 6). Runs in pop3-session as the user.
 */
#include <errno.h>

#include "handlers/pop3/session.h"
#include "shared/base/log.h"
#include "shared/serve/serve.h"

/* Calls for every message: adds its UID to the set if it is to be removed, or if it was read and stays. */
static int collect(struct pop3 *s, struct numset *remove, struct numset *seen)
{
    int64_t now = clock_now(&s->conf->clock);
    uint32_t count = mbox_count(s->box);
    struct mbox_info info;
    int r = 0;

    for (uint32_t seq = 1; seq <= count && r >= 0; seq++) {
        uint8_t marks = s->marks[seq - 1];
        bool is_retrieved = marks & POP3_RETRIEVED, is_expired;

        if (!marks && s->policy.expire == POP3_EXPIRE_NEVER)
            continue;
        r = mbox_info(s->box, seq, &info);
        if (r < 0)
            return r;
        /* Nobody asked for it: where nothing can be removed it is no error. */
        is_expired = !(marks & POP3_DELETED) && !mbox_is_readonly(s->box) &&
                     pop3_policy_is_expired(&s->policy, &info, is_retrieved, now);
        s->count.expired += is_expired;
        if (is_expired || marks & POP3_DELETED)
            r = numset_add(remove, info.uid, info.uid);
        else if (is_retrieved && !(info.flags.system & MBOX_SEEN))
            r = numset_add(seen, info.uid, info.uid);
    }
    return r;
}

/* What is deleted goes in one expunge. What was read and stays is \Seen, for the user's other programs and for LAST of
 * the next session. */
static int update(struct pop3 *s)
{
    _cleanup_numset_ struct numset remove = NUMSET_INIT, seen = NUMSET_INIT;
    int r = collect(s, &remove, &seen);

    return r < 0 ? r : serve_update(s->box, &remove, &seen, &s->count.removed);
}

int pop3_quit(void *session, struct str arguments)
{
    struct pop3 *s = session;
    int r = pop3_no_more(s, arguments, "QUIT");
    uint64_t left;

    if (r)
        return r;
    r = update(s);
    left = mbox_count(s->box) - s->deleted - s->count.expired;
    if (r >= 0) {
        /* The maildrop is free before the client hears of it: it may come back at once. What is left to do is durable
         * and need not be waited for: flags that go into the file for other programs. */
        mbox_leave(s->box);
        s->is_leaving = true;
        s->end = "quit";
        return pop3_ok(s, "Good bye, %llu deleted, %llu left", (unsigned long long)s->count.removed,
                       (unsigned long long)left);
    }
    pop3_release(s);
    LOG_ERROR(LOG_ERR, "expunge", r);
    if (r == -ESTALE)
        (void)pop3_err(s, "SYS/TEMP", "Another program has replaced the mailbox, nothing was removed");
    else
        (void)pop3_store_err(s, r);
    (void)writer_flush(&s->out);
    return r;
}
