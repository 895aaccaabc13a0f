/*
 * Writing records into an index (see index_put.h), and the sums over them that its header keeps. Runs as the user under
 * BOX_STATE.
 */
#include "shared/mbox/index_put.h"

#include <errno.h>
#include <string.h>

#include "shared/mbox/box.h"
#include "shared/mbox/interop.h"

int index_flush_batch(struct index *ix)
{
    struct index_batch *batch = ix->batch;
    int r;

    if (batch->count == 0)
        return 0;
    ix->is_changed = true;
    r = file_write(ix->fd, batch->briefs, batch->count * INDEX_BRIEF_SIZE, index_brief_place(batch->first));
    if (r == 0 && batch->has_rests)
        r = file_write(ix->fd, batch->rests, batch->count * INDEX_REST_SIZE, index_rest_place(batch->first));
    if (r == 0)
        batch->count = 0;
    return r;
}

static bool is_in_batch(const struct index *ix, uint64_t at)
{
    return ix->batch != NULL && at >= ix->batch->first && at - ix->batch->first < ix->batch->count;
}

static int get_rest(const struct index *ix, uint64_t at, void *ret)
{
    uint64_t place = index_rest_place(at);

    if (is_in_batch(ix, at) && ix->batch->has_rests)
        memcpy(ret, ix->batch->rests[at - ix->batch->first], INDEX_REST_SIZE);
    else if (place + INDEX_REST_SIZE <= ix->mapped)
        memcpy(ret, (const char *)ix->head + place, INDEX_REST_SIZE);
    else
        return file_read(ix->fd, ret, INDEX_REST_SIZE, place);
    return 0;
}

static int get_brief(const struct index *ix, uint64_t at, struct index_brief *ret)
{
    if (is_in_batch(ix, at))
        *ret = ix->batch->briefs[at - ix->batch->first];
    else if (index_rest_place(at) + INDEX_REST_SIZE <= ix->mapped)
        *ret = *index_brief(ix, at);
    else
        return file_read(ix->fd, ret, INDEX_BRIEF_SIZE, index_brief_place(at));
    return 0;
}

/* The record as it was put last. */
static int get_record(const struct index *ix, uint64_t at, struct index_record *ret)
{
    int r = get_brief(ix, at, &ret->brief);

    return r < 0 ? r : get_rest(ix, at, (uint8_t *)ret + INDEX_BRIEF_SIZE);
}

static bool is_unseen(const struct index_brief *brief)
{
    return !(brief->bits & INDEX_EXPUNGED) && !(brief->flags & MBOX_SEEN);
}

/* Adds a brief to the sums of the header, or takes it out. */
static inline void count_brief(struct index_header *h, uint64_t at, const struct index_brief *brief, bool is_added)
{
    const uint32_t one = is_added ? 1 : UINT32_MAX;

    h->unwritten += index_is_unwritten(brief) ? one : 0;
    h->logged += index_is_logged(brief) ? one : 0;
    if (!is_unseen(brief))
        return;
    if (is_added && (h->unseen == 0 || at < h->first_unseen))
        h->first_unseen = at;
    h->unseen += one;
}

/* The same for a whole record. */
static void count_record(struct index_header *h, uint64_t at, const struct index_record *rec, bool is_added)
{
    const uint64_t size = is_added ? rec->size : -rec->size;

    count_brief(h, at, &rec->brief, is_added);
    if (rec->bits & INDEX_EXPUNGED)
        return;
    h->bytes += size;
    if (rec->flags & MBOX_DELETED) {
        h->deleted += is_added ? 1 : UINT32_MAX;
        h->deleted_bytes += size;
    }
}

/* Moves first_unseen up to where it really is. */
int index_find_unseen(struct index *ix)
{
    struct index_header *h = ix->next;
    struct index_brief brief;
    int r;

    for (; h->unseen > 0 && h->first_unseen < h->count; h->first_unseen++) {
        if ((r = get_brief(ix, h->first_unseen, &brief)) < 0)
            return r;
        if (is_unseen(&brief))
            break;
    }
    return 0;
}

/* From now on the batch writes rests too: those of what is in it already stay what they are. */
static int fill_rests(struct index *ix)
{
    struct index_batch *batch = ix->batch;
    int r = 0;

    for (size_t i = 0; r == 0 && !batch->has_rests && i < batch->count; i++)
        r = get_rest(ix, batch->first + i, batch->rests[i]);
    batch->has_rests = r == 0;
    return r;
}

/* Makes sure that a record has its place in the batch or right behind what is in it. */
static inline int make_place(struct index *ix, uint64_t at)
{
    struct index_batch *batch = ix->batch;
    int r;

    if (batch->count > 0 && (is_in_batch(ix, at) || (at == batch->first + batch->count && at % INDEX_BATCH > 0)))
        return 0;
    if ((r = index_flush_batch(ix)) < 0)
        return r;
    batch->first = at;
    batch->has_rests = false;
    return 0;
}

/* The same for the briefs of records that are there, all of one batch. Their rests stay as they are. */
static int make_places(struct index *ix, uint64_t at, uint64_t count)
{
    struct index_batch *batch = ix->batch;
    int r = make_place(ix, at);

    while (r == 0 && batch->count < at - batch->first + count) {
        if (batch->has_rests)
            r = get_rest(ix, batch->first + batch->count, batch->rests[batch->count]);
        batch->count += r == 0;
    }
    return r;
}

/* Both parts. */
static int put_parts(struct index *ix, uint64_t at, const struct index_record *rec)
{
    struct index_batch *batch = ix->batch;
    size_t i;
    int r;

    if ((r = make_place(ix, at)) < 0 || (r = fill_rests(ix)) < 0)
        return r;
    i = at - batch->first;
    if (i == batch->count)
        batch->count++;
    batch->briefs[i] = rec->brief;
    memcpy(batch->rests[i], index_rest(rec), INDEX_REST_SIZE);
    if (at >= ix->next->count)
        ix->next->count = at + 1;
    return 0;
}

/* What was made of it would seem to be whole: the index stays dirty. */
static int refuse(struct index *ix)
{
    ix->is_changed = true;
    ix->batch->count = 0;
    return -EIO;
}

int index_put_record(struct index *ix, uint64_t at, const struct index_record *rec)
{
    struct index_record next = *rec;
    _uninitialized_ struct index_record old;
    bool is_new = at >= ix->next->count;
    int r = 0;

    next.bits = (uint16_t)(next.bits & ~INDEX_OWN_KEYWORDS);
    next.bits |= next.keywords != next.file_keywords ? INDEX_OWN_KEYWORDS : 0;
    next.check = index_brief_check(&next.brief);
    next.rest_check = index_rest_check(&next);
    if (!is_new) {
        if ((r = get_record(ix, at, &old)) < 0)
            return r;
        if (!index_is_valid(&old))
            return refuse(ix);
        count_record(ix->next, at, &old, false);
    }
    count_record(ix->next, at, &next, true);
    if (is_new || memcmp(index_rest(&old), index_rest(&next), INDEX_REST_SIZE) != 0)
        return put_parts(ix, at, &next);
    if ((r = make_places(ix, at, 1)) == 0)
        ix->batch->briefs[at - ix->batch->first] = next.brief;
    return r;
}

void index_get(const struct box *b, uint64_t at, struct index_record *ret)
{
    *ret = index_load(&b->ix, at);
    if (is_in_batch(&b->ix, at)) {
        ret->brief = b->ix.batch->briefs[at - b->ix.batch->first];
        (void)get_rest(&b->ix, at, (uint8_t *)ret + INDEX_BRIEF_SIZE); /* mapped, or in the batch */
    }
}

int index_put(struct box *b, uint64_t at, const struct index_record *rec)
{
    return index_put_record(&b->ix, at, rec);
}

/* Those from `at` on, of one batch. What was cut off since it was looked at reads as zeros. */
static int put_flags(struct index *ix, const struct index_brief *old, const struct index_run *run, uint64_t at,
                     uint64_t count, uint64_t modseq)
{
    struct index_brief *place = &ix->batch->briefs[at - ix->batch->first];
    const uint32_t uid = run->uid + (uint32_t)(at - run->at);
    const uint64_t keywords = run->after.keywords;
    const uint8_t flags = run->after.flags;
    uint32_t unwritten = 0, logged = 0;

    for (uint64_t i = 0; i < count; i++) {
        const struct index_brief *before = &old[i];
        bool has_uid = (before->bits & INDEX_UID_IN_FILE) != 0;
        struct index_brief next = *before;
        uint32_t more;

        if (before->uid != uid + i)
            return refuse(ix);
        next.flags = flags;
        next.keywords = keywords;
        next.modseq = modseq;
        next.bits = (uint16_t)(next.bits & ~INDEX_PENDING);
        if (flags != (before->file_flags & ~INTEROP_OLD) || (before->bits & INDEX_OWN_KEYWORDS))
            next.bits |= INDEX_PENDING;
        next.check = index_brief_check(&next);
        place[i] = next;
        /* index_is_unwritten(), index_is_logged() */
        more = (uint32_t)((next.bits & INDEX_PENDING) != 0) - (uint32_t)((before->bits & INDEX_PENDING) != 0);
        logged += has_uid ? more : 0; /* for want of it they are anyway */
        unwritten += has_uid || before->block == 0 ? more : 0;
    }
    ix->next->logged += logged;
    ix->next->unwritten += unwritten;
    return 0;
}

static void count_seen(struct index_header *h, const struct index_run *run)
{
    bool was_seen = (run->before.flags & MBOX_SEEN) != 0;

    if (!((run->before.flags ^ run->after.flags) & MBOX_SEEN))
        return;
    if (was_seen && (h->unseen == 0 || run->at < h->first_unseen))
        h->first_unseen = run->at;
    h->unseen += was_seen ? (uint32_t)run->count : -(uint32_t)run->count;
}

int index_put_flags(struct box *b, const struct index *from, const struct index_run *run, uint64_t modseq)
{
    int r = 0;

    count_seen(b->ix.next, run);
    for (uint64_t at = run->at, end = at + run->count, count; r == 0 && at < end; at += count) {
        uint64_t room = INDEX_BATCH - at % INDEX_BATCH;

        count = end - at < room ? end - at : room;
        if ((r = make_places(&b->ix, at, count)) == 0)
            r = put_flags(&b->ix, index_brief(from, at), run, at, count, modseq);
    }
    return r;
}
