/*
 * Removing messages: the end of the file is cut, or everything behind the first hole moves up under a redo journal.
 * Runs as the user under BOX_WRITE and BOX_STATE.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/expunge.h"
#include "shared/mbox/journal.h"

static int by_offset(const void *a, const void *b)
{
    const struct doomed *x = a, *y = b;

    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int doom(struct expunge *e, uint64_t position, const struct index_record *rec)
{
    if (e->count == e->cap) {
        size_t cap = e->cap == 0 ? 64 : e->cap * 2;
        struct doomed *more = realloc(e->doomed, cap * sizeof(*more));

        if (more == NULL)
            return -ENOMEM;
        e->doomed = more;
        e->cap = cap;
    }
    e->doomed[e->count++] = (struct doomed){.offset = rec->offset, .length = rec->length, .position = position};
    return numset_add(&e->uids, rec->uid, rec->uid);
}

/* Which messages go: all of `uids` (NULL: all), those that are \Deleted. */
static int choose(struct expunge *e, const struct numset *uids, bool only_deleted)
{
    const struct index *ix = &e->b->ix;
    int r = 0;

    for (uint64_t i = 0; r == 0 && i < ix->head->count; i++) {
        const struct index_record *rec = &ix->records[i];

        if ((rec->bits & INDEX_EXPUNGED) || (only_deleted && !(rec->flags & MBOX_DELETED)))
            continue;
        if (uids != NULL && !numset_has(uids, rec->uid))
            continue;
        r = index_is_valid(rec) ? doom(e, i, rec) : -EIO;
    }
    if (r == 0 && e->count > 1)
        qsort(e->doomed, e->count, sizeof(*e->doomed), by_offset);
    return r;
}

/* The kept runs between and behind the doomed messages. */
static int make_plan(struct expunge *e, struct journal_plan *plan)
{
    uint64_t from = e->doomed[0].offset;
    int r = 0;

    for (size_t i = 0; r == 0 && i < e->count; i++) {
        if (e->doomed[i].offset < from)
            return -EIO;
        r = journal_plan_copy(plan, from, e->doomed[i].offset - from);
        from = e->doomed[i].offset + e->doomed[i].length;
    }
    if (r == 0 && from > plan->old_size)
        r = -EIO;
    return r < 0 ? r : journal_plan_copy(plan, from, plan->old_size - from);
}

static int remove_bytes(struct expunge *e)
{
    struct box *b = e->b;
    struct journal_plan plan;
    int r;

    journal_plan_init(&plan, e->doomed[0].offset, (uint64_t)b->facts.st_size);
    r = make_plan(e, &plan);
    if (r == 0) /* even if only the end is cut: the rest of its block may be cleared before the size is durable */
        r = journal_run(b, &plan);
    journal_plan_finish(&plan);
    return r;
}

/* How many doomed bytes lie in front of a place. */
static uint64_t removed_before(const struct expunge *e, uint64_t offset)
{
    size_t low = 0, high = e->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (e->doomed[mid].offset < offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low == 0 ? 0 : e->doomed[low - 1].before + e->doomed[low - 1].length;
}

static int update_index(struct expunge *e, uint64_t modseq)
{
    struct box *b = e->b;
    struct index_header *h = &b->ix.next;
    uint64_t last = 0;
    int r;

    if ((r = index_begin(b)) < 0)
        return r;
    for (uint64_t i = 0; r == 0 && i < b->ix.head->count; i++) {
        struct index_record rec = b->ix.records[i];
        bool is_doomed = !(rec.bits & INDEX_EXPUNGED) && numset_has(&e->uids, rec.uid);

        if (rec.bits & INDEX_EXPUNGED)
            continue;
        if (!is_doomed && rec.offset < e->doomed[0].offset) {
            if (rec.offset >= last) {
                last = rec.offset;
                h->last = i;
            }
            continue;
        }
        if (is_doomed) {
            rec.bits |= INDEX_EXPUNGED;
            rec.modseq = modseq;
        } else {
            rec.offset -= removed_before(e, rec.offset);
            if (rec.offset >= last) {
                last = rec.offset;
                h->last = i;
            }
        }
        r = index_put(b, i, &rec);
    }
    if (r < 0)
        return r;
    h->live -= e->count;
    h->modseq = modseq;
    h->expunges = modseq;
    h->generation++;
    index_describe(h, &b->facts);
    return index_end(b);
}

/* Room in the log first, then the bytes; when they are gone, durably, the state says so, and the index. */
static int remove_messages(struct expunge *e)
{
    _cleanup_buf_ struct buf log = BUF_INIT(64u << 20);
    struct box *b = e->b;
    uint64_t modseq = b->ix.head->modseq + 1;
    int r;

    if ((r = log_put_expunged(&log, modseq, &e->uids)) < 0 || (r = log_reserve(b, &log)) < 0 ||
        (r = remove_bytes(e)) < 0)
        return r;
    if (fstat(b->fd, &b->facts) < 0)
        return -errno;
    if ((r = log_commit(b, &log, true)) < 0)
        return r;
    return update_index(e, modseq);
}

static void sum_up(struct expunge *e)
{
    uint64_t before = 0;

    for (size_t i = 0; i < e->count; i++) {
        e->doomed[i].before = before;
        before += e->doomed[i].length;
    }
}

static int expunge(struct mbox *v, const struct numset *uids, bool only_deleted, struct numset *ret_uids)
{
    struct expunge e = {.b = v->b};
    int r;

    if (mbox_is_readonly(v))
        return -EROFS;
    if ((r = box_lock_synced(v->b, BOX_WRITE)) < 0)
        return r == -ENOENT && v->b->fd < 0 ? 0 : r; /* no file, no messages */
    r = v->b->ix.head->uidvalidity == v->uidvalidity ? choose(&e, uids, only_deleted) : -ESTALE;
    if (r == 0 && e.count > 0) {
        sum_up(&e);
        r = remove_messages(&e);
        if (r == 0 && log_compact(v->b) == 0) /* done, whether or not this succeeds */
            (void)index_purge(v->b);
    }
    box_unlock(v->b);
    view_follow(v);
    if (r == 0 && ret_uids != NULL)
        r = numset_add_set(ret_uids, &e.uids);
    numset_finish(&e.uids);
    free(e.doomed);
    return r;
}

int mbox_expunge(struct mbox *v, const struct numset *uids, struct numset *ret_uids)
{
    return expunge(v, uids, true, ret_uids);
}

int mbox_remove(struct mbox *v, const struct numset *uids, struct numset *ret_uids)
{
    return expunge(v, uids, false, ret_uids);
}
