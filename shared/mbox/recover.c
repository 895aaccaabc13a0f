/*
 * Recovery without a session. Runs as the user in `deliver --recover`; touches mailboxes and their sidecars.
 */
#include "shared/mbox/recover.h"

#include <errno.h>

#include "shared/mbox/journal.h"
#include "shared/mbox/tail.h"

static int recover_state(struct box *b)
{
    int r = box_lock_synced(b, BOX_WRITE);

    box_unlock(b);
    return r;
}

static int recover_plain(struct box *b)
{
    int r = box_lock(b, BOX_WRITE);

    if (r == 0)
        r = tail_recover(b, TAIL_ALL);
    box_unlock(b);
    return r;
}

static int recover_box(struct mbox_store *s, struct str name, bool always)
{
    struct box *b;
    int r;

    if ((r = box_open(s, name, false, &b)) < 0)
        return r == -ENOENT ? 0 : r;
    if (b->fd >= 0 && (always || journal_exists(b))) {
        r = b->side == NULL ? recover_plain(b) : recover_state(b);
        if (r == -EACCES || r == -ENOSPC || r == -EDQUOT || r == -EROFS) /* the sidecars: do without them */
            r = journal_exists(b) ? r : recover_plain(b);
        if (r == -EBADMSG)
            r = 0; /* not an mbox: it was not us */
    }
    box_free(b);
    return r;
}

struct recovery {
    struct mbox_store *s;
    int error;
};

static int recover_visit(void *context, struct str name, unsigned flags)
{
    struct recovery *rec = context;
    int r;

    if (flags & (MBOX_ENTRY_NOSELECT | MBOX_ENTRY_MISSING))
        return 0;
    r = recover_box(rec->s, name, str_eq(name, STR("INBOX")));
    if (r < 0 && rec->error == 0)
        rec->error = r;
    return 0;
}

int mbox_recover(struct mbox_store *s)
{
    struct recovery rec = {.s = s};
    int r = mbox_list(s, recover_visit, &rec);

    return rec.error < 0 ? rec.error : r;
}
