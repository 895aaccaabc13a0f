/*
 * The UIDs of a view's messages, by the hundred thousand. Runs as the user, without a lock.
 */
#include <errno.h>

#include "shared/mbox/view.h"

#define FEW 32 /* are looked at one by one */

/* One that is being written just now, or is damaged. */
static int look_again(struct mbox *v, uint32_t seq, uint32_t *ret)
{
    struct index_record rec;
    int r = view_record(v, seq, &rec);

    if (r == 0)
        *ret = rec.uid;
    return r;
}

static int uid_of(struct mbox *v, uint32_t seq, uint32_t *ret)
{
    const struct index_brief brief = *index_brief(&v->ix, view_position(v, seq));

    if (v->is_damaged || !index_brief_is_valid(&brief))
        return look_again(v, seq, ret);
    *ret = brief.uid;
    return 0;
}

/* UIDs ascend: where the last is as far from the first as their numbers are, all of those between follow one another,
 * and need not be looked at. Otherwise each half. */
static int add_uids(struct mbox *v, uint32_t from, uint32_t to, struct numset *ret)
{
    uint32_t first, last, middle = from + (to - from) / 2;
    int r;

    if ((r = uid_of(v, from, &first)) < 0 || (r = uid_of(v, to, &last)) < 0)
        return r;
    if (last - first == to - from)
        return numset_add(ret, first, last);
    if (to - from >= FEW)
        return (r = add_uids(v, from, middle, ret)) < 0 ? r : add_uids(v, middle + 1, to, ret);
    for (uint32_t seq = from; r == 0 && seq <= to; seq++) {
        uint32_t uid = 0;

        if ((r = uid_of(v, seq, &uid)) == 0)
            r = numset_add(ret, uid, uid);
    }
    return r;
}

int mbox_uids(struct mbox *v, uint32_t first, uint32_t last, struct numset *ret)
{
    return first == 0 || first > last || last > mbox_count(v) ? -EINVAL : add_uids(v, first, last, ret);
}
