/*
 * Making the file a few bytes longer, near its end and at once: where messages go and their bytes become padding, or
 * the others move by just as much as one of them has, the sizes have to change with them, see remember.h. Runs as the
 * user under BOX_WRITE and BOX_STATE.
 */
#include <errno.h>
#include <sys/stat.h>

#include "shared/base/macros.h"
#include "shared/mbox/expunge.h"
#include "shared/mbox/flush.h"
#include "shared/mbox/remember.h"
#include "shared/mbox/rewrite.h"

#define LENGTHEN_MOST (4u << 20) /* the last message: it is written twice */
#define SHIFT_MOST    (1u << 20) /* the last messages together */

/* A message with a longer block. It is not the first of the file: one in front of it is doomed. */
static int make_head(struct box *b, const struct index_record *rec, struct buf *head, struct rewrite_head *ret)
{
    int r = rewrite_head(b, rec, false, REMEMBER_STEP, head, ret);

    if (r == -ENOBUFS) /* it has none yet */
        r = rewrite_head(b, rec, false, REWRITE_LEAST, head, ret);
    return r == 0 && ret->room <= 0 ? -ENOBUFS : r;
}

/* Nothing was begun, and there are other ways: no room, or another program has appended. */
static bool is_untouched(struct box *b, int error)
{
    static const int passing[] = {EFBIG, ENOBUFS, ENOSPC, EDQUOT, EAGAIN};
    struct stat st;

    for (size_t i = 0; i < ARRAY_SIZE(passing); i++)
        if (error == -passing[i])
            return !journal_exists(b) && fstat(b->fd, &st) == 0 && (st.st_size == b->facts.st_size || error == -EAGAIN);
    return false;
}

static int grow(struct box *b, const struct index_record *rec, const struct buf *head, size_t span)
{
    uint64_t size = (uint64_t)b->facts.st_size;
    struct journal_plan plan;
    int r;

    journal_plan_init(&plan, rec->offset, size);
    if ((r = journal_plan_literal(&plan, head->data, head->len)) == 0 &&
        (r = journal_plan_copy(&plan, rec->offset + span, size - rec->offset - span)) == 0)
        r = journal_grow(b, &plan);
    journal_plan_finish(&plan);
    return is_untouched(b, r) ? -ENOBUFS : r;
}

static int move_records(struct box *b, uint64_t position, const struct rewrite_head *made)
{
    uint64_t from = index_offset(&b->ix, position);
    int r = 0;

    for (uint64_t i = position; r == 0 && i < b->ix.head->count; i++) {
        struct index_record rec = index_load(&b->ix, i);
        if ((rec.bits & INDEX_EXPUNGED) || rec.offset < from)
            continue;
        if (i == position)
            expunge_mark(&rec, made->room, made->block);
        else
            rec.offset += (uint64_t)made->room;
        r = index_put(b, i, &rec);
    }
    return r;
}

/* The file has all of it now; the log is told, and the index. */
static int record(struct box *b, uint64_t position, const struct rewrite_head *made)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    _cleanup_buf_ struct buf log = BUF_INIT(4096);
    uint64_t size = (uint64_t)b->facts.st_size + (uint64_t)made->room;
    uint32_t uid = index_brief(&b->ix, position)->uid;
    int r;

    if ((r = file_settle(b, size)) < 0 || (r = numset_add(&uids, uid, uid)) < 0 ||
        (r = log_put_flushed(&log, &uids)) < 0 || (r = log_commit(b, &log, true)) < 0 || (r = index_begin(b)) < 0 ||
        (r = move_records(b, position, made)) < 0)
        return r;
    b->ix.next->generation++;
    index_describe(b->ix.next, &b->facts);
    b->ix.next->size = size; /* what another program may have appended meanwhile is not in here */
    return index_end(b);
}

/* Which one: the first behind a doomed one that can be, with not too many and too much behind it. */
static int choose(const struct expunge *e, uint64_t *ret)
{
    const struct index *ix = &e->b->ix;
    uint64_t size = (uint64_t)e->b->facts.st_size, i = ix->head->count;
    bool is_found = false;

    if (!ix->head->is_ordered)
        return -ENOBUFS;
    for (unsigned n = 0; i > 0 && n < REMEMBER_SIZES; i--) {
        struct index_record rec = index_load(ix, i - 1);
        if (rec.bits & INDEX_EXPUNGED)
            continue;
        if (!index_is_valid(&rec) || rec.offset <= e->doomed[0].offset ||
            size - rec.offset > (n == 0 ? LENGTHEN_MOST : SHIFT_MOST))
            break;
        n++;
        if (expunge_is_doomed(e, i - 1))
            continue;
        *ret = i - 1;
        is_found = true;
    }
    return is_found ? 0 : -ENOBUFS;
}

int expunge_lengthen(struct expunge *e)
{
    _cleanup_buf_ struct buf head = BUF_INIT(REWRITE_HEADER_MAX * 2);
    struct box *b = e->b;
    struct index_record rec;
    struct rewrite_head made;
    uint64_t position = 0;
    int r;

    if ((r = choose(e, &position)) < 0)
        return r;
    if (b->ix.head->size != (uint64_t)b->facts.st_size)
        return -ENOBUFS;
    rec = index_load(&b->ix, position);
    if ((r = make_head(b, &rec, &head, &made)) < 0)
        return r == -EFBIG || r == -ESTALE ? -ENOBUFS : r;
    if ((r = grow(b, &rec, &head, made.span)) < 0 || (r = record(b, position, &made)) < 0)
        return r;
    for (size_t i = 0; i < e->count; i++)
        e->doomed[i].offset = index_offset(&b->ix, e->doomed[i].position);
    return 0;
}
