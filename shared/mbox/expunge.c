/*
 * Removing messages: chosen, taken out of the file as expunge_plan.c says, told to the state log and the index. Runs as
 * the user under BOX_WRITE and BOX_STATE.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "shared/base/macros.h"
#include "shared/mbox/expunge.h"
#include "shared/mbox/flush.h"
#include "shared/mbox/remember.h"
#include "shared/mbox/sync.h"

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
        const struct index_brief *brief = index_brief(ix, i);
        struct index_record rec;

        if ((brief->bits & INDEX_EXPUNGED) || (only_deleted && !(brief->flags & MBOX_DELETED)))
            continue;
        if (uids != NULL && !numset_has(uids, brief->uid))
            continue;
        rec = index_load(ix, i);
        r = index_is_valid(&rec) ? doom(e, i, &rec) : index_spoil(e->b);
    }
    if (r == 0 && e->count > 1)
        qsort(e->doomed, e->count, sizeof(*e->doomed), by_offset);
    return r;
}

/* Where not all of a large file was looked at after it grew: are these the messages? -EUCLEAN: not all; the file is to
 * be read again, and chosen from anew. */
static int check_doomed(struct expunge *e)
{
    struct box *b = e->b;
    int r = 0;

    for (size_t i = 0; r == 0 && b->ix.head->is_sampled && i < e->count; i++)
        r = sync_verify_record(b, e->doomed[i].position);
    if (r != -ESTALE || (r = index_begin(b)) < 0)
        return r;
    b->ix.next->mtime = -1; /* so that it describes no file, and what is known of the messages stays */
    r = index_end(b);
    return r < 0 ? r : -EUCLEAN;
}

/* The end of the file that goes too; what is in front of it is shorter already. */
static int cut_end(struct box *b, const struct run *run)
{
    struct journal_cuts cuts;
    int r;

    journal_cuts_init(&cuts);
    if (fstat(b->fd, &b->facts) < 0)
        return -errno;
    r = journal_cuts_add(&cuts, run->from - run->before, run->to - run->before, 0, STR_NULL);
    if (r == 0)
        r = journal_cut(b, &cuts, false);
    journal_cuts_finish(&cuts);
    return r;
}

/* Even if only the end is cut it is done under a journal: the rest of its block may be cleared before the size is
 * durable. */
static int remove_bytes(struct expunge *e)
{
    const struct run *last = &e->runs[e->run_count - 1];
    int r = journal_cut(e->b, &e->cuts, e->is_collapse);

    return r == 0 && e->is_collapse && e->cuts.count < e->run_count ? cut_end(e->b, last) : r;
}

/* The last run that begins at or before a place. */
static const struct run *run_before(const struct expunge *e, uint64_t offset)
{
    size_t low = 0, high = e->run_count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (e->runs[mid].from <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low == 0 ? NULL : &e->runs[low - 1];
}

void expunge_mark(struct index_record *rec, int64_t room, size_t block)
{
    rec->length = (uint64_t)((int64_t)rec->length + room);
    rec->header = (uint32_t)((int64_t)rec->header + room);
    rec->block = (uint16_t)block;
    flush_mark(rec);
    rec->bits = (uint16_t)((rec->bits & ~(INDEX_HAS_STRAY | INDEX_IN_PLACE | INDEX_IS_TORN)) | INDEX_HAS_MARKER);
}

/* Where the message of a record will begin, with the run in front of it. */
static uint64_t place_behind(const struct run *run, uint64_t position, uint64_t offset)
{
    if (run == NULL)
        return offset;
    return run->next == position ? run->from - run->before : offset - run->before - run->cut;
}

uint64_t expunge_place(const struct expunge *e, uint64_t position)
{
    uint64_t offset = index_offset(&e->b->ix, position);

    return place_behind(run_before(e, offset), position, offset);
}

bool expunge_is_doomed(const struct expunge *e, uint64_t position)
{
    return index_offset(&e->b->ix, position) >= e->doomed[0].offset &&
           numset_has(&e->uids, index_brief(&e->b->ix, position)->uid);
}

/* A record that stays, at its new place and with what else changes with it. One that stays as it is is not written. */
static int move_record(struct expunge *e, uint64_t i, uint64_t *ret_place)
{
    uint64_t offset = index_offset(&e->b->ix, i);
    const struct run *run = run_before(e, offset);
    bool is_next = run != NULL && run->next == i;
    struct index_record rec;

    *ret_place = place_behind(run, i, offset);
    if (!is_next && *ret_place == offset)
        return 0;
    rec = index_load(&e->b->ix, i);
    rec.offset = *ret_place;
    if (is_next) {
        expunge_mark(&rec, run->room, run->block);
        if (run->has_base)
            rec.bits |= INDEX_HAS_BASE;
    }
    return index_put(e->b, i, &rec);
}

static int remove_record(struct expunge *e, uint64_t i, uint64_t modseq)
{
    struct index_record rec = index_load(&e->b->ix, i);

    rec.bits |= INDEX_EXPUNGED;
    rec.modseq = modseq;
    return index_put(e->b, i, &rec);
}

static int update_index(struct expunge *e, uint64_t modseq)
{
    struct box *b = e->b;
    struct index_header *h;
    struct index_record rec;
    uint64_t last = 0;
    int r;

    if ((r = index_begin(b)) < 0)
        return r;
    h = b->ix.next;
    for (uint64_t i = 0; r == 0 && i < b->ix.head->count; i++) {
        uint64_t place;

        if (index_brief(&b->ix, i)->bits & INDEX_EXPUNGED)
            continue;
        if (expunge_is_doomed(e, i)) {
            r = remove_record(e, i, modseq);
            continue;
        }
        r = move_record(e, i, &place);
        if (place >= last) {
            last = place;
            h->last = i;
        }
    }
    if (r < 0)
        return r;
    index_get(b, h->last, &rec);
    if (last > 0 && !index_is_valid(&rec)) /* what grows goes by it */
        return -EIO;
    if (e->runs[0].has_base && e->runs[0].next != EXPUNGE_NONE) {
        h->base_validity = h->uidvalidity;
        h->base_last = h->uidnext - 1;
    }
    h->live -= e->count;
    h->modseq = modseq;
    h->expunges = modseq;
    h->generation++;
    index_describe(h, &b->facts);
    h->size = e->new_size; /* what another program may have appended meanwhile is not in here */
    return index_end(b);
}

/* Those whose blocks are written anew on the way: the file has all of them then. */
static int log_heads(const struct expunge *e, struct buf *log)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    int r = 0;

    for (size_t i = 0; r == 0 && i < e->run_count; i++) {
        const struct run *run = &e->runs[i];
        uint32_t uid;

        if (run->next == EXPUNGE_NONE)
            continue;
        uid = index_brief(&e->b->ix, run->next)->uid;
        r = numset_add(&uids, uid, uid);
    }
    return r < 0 || uids.count == 0 ? r : log_put_flushed(log, &uids);
}

/* Room in the log first, then the bytes; when they are gone, durably, the state says so, and the index. */
static int remove_messages(struct expunge *e)
{
    _cleanup_buf_ struct buf log = BUF_INIT(64u << 20);
    struct box *b = e->b;
    uint64_t modseq = b->ix.head->modseq + 1;
    int r;

    if ((r = remember_sizes(b, e->doomed[0].offset)) < 0 || (r = expunge_plan(e)) < 0)
        return r;
    e->new_size = b->ix.head->size; /* the plan may have made it longer */
    if ((r = log_put_expunged(&log, modseq, &e->uids)) < 0 || (r = log_heads(e, &log)) < 0 ||
        (r = log_reserve(b, &log)) < 0 || (r = remove_bytes(e)) < 0)
        return r;
    e->new_size -= e->runs[e->run_count - 1].before + e->runs[e->run_count - 1].cut;
    if ((r = file_settle(b, e->new_size)) < 0 || (r = log_commit(b, &log, true)) < 0)
        return r;
    return update_index(e, modseq);
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
    if (r == 0)
        r = check_doomed(&e);
    if (r == 0 && e.count > 0) {
        r = remove_messages(&e);
        if (r == 0 && log_compact(v->b) == 0) /* done, whether or not this succeeds */
            (void)index_purge(v->b);
    }
    box_unlock(v->b);
    view_follow(v);
    if (r == 0 && ret_uids != NULL)
        r = numset_add_set(ret_uids, &e.uids);
    expunge_plan_finish(&e);
    numset_finish(&e.uids);
    free(e.doomed);
    return r;
}

/* On a full disk this is what has to work. */
static int expunge_in_need(struct mbox *v, const struct numset *uids, bool only_deleted, struct numset *ret_uids)
{
    int r = expunge(v, uids, only_deleted, ret_uids);

    if (r == -EUCLEAN)
        r = expunge(v, uids, only_deleted, ret_uids);
    return r < 0 && store_use_reserve(v->b->store, r, true) ? expunge(v, uids, only_deleted, ret_uids) : r;
}

int mbox_expunge(struct mbox *v, const struct numset *uids, struct numset *ret_uids)
{
    return expunge_in_need(v, uids, true, ret_uids);
}

int mbox_remove(struct mbox *v, const struct numset *uids, struct numset *ret_uids)
{
    return expunge_in_need(v, uids, false, ret_uids);
}
