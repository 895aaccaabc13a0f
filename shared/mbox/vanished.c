/*
 * The expunge history for QRESYNC. Runs as the user under BOX_STATE.
 */
#include <errno.h>

#include "shared/base/macros.h"
#include "shared/mbox/view.h"

int mbox_vanished(struct mbox *v, uint64_t since_modseq, struct numset *ret_uids, bool *ret_complete)
{
    int r;

    if ((r = box_lock_synced(v->b, 0)) < 0)
        return r;
    r = log_vanished(v->b, since_modseq, ret_uids, ret_complete);
    box_unlock(v->b);
    return r;
}
