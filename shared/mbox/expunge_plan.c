/*
 * How the bytes of doomed messages leave the file. Where little goes and much follows, whole blocks are given back and
 * the rest becomes padding in the block of the message behind; otherwise everything behind moves up, and padding that
 * has gathered goes too. Runs as the user under BOX_WRITE and BOX_STATE.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/macros.h"
#include "shared/mbox/expunge.h"
#include "shared/mbox/remember.h"
#include "shared/mbox/rewrite.h"

#define COLLAPSE_MOST  16u          /* runs in one expunge: each makes an extent */
#define COLLAPSE_LEAST (64u << 10)  /* bytes behind the first run: fewer are moved as fast */
#define MOVED_MOST     (64u << 20)  /* bytes behind it that are moved only so that the size changes */
#define PADDED         1024u        /* a block this long holds padding */
#define PADDING_LEAST  (256u << 10) /* so much in a file is no matter */
#define PADDING_SHARE  8u           /* nor is this part of it */
#define ROOM_MOST      (60u << 10)  /* a block is shorter than 64 KB */
#define PLANS_MOST     8u           /* each makes the file longer */
#define SEPARATOR      4u           /* bytes of an empty line and the line end before it */

void expunge_plan_finish(struct expunge *e)
{
    free(e->runs);
    e->runs = NULL;
    e->run_count = e->run_cap = 0;
    journal_cuts_finish(&e->cuts);
}

static void plan_start(struct expunge *e, bool is_collapse)
{
    e->run_count = 0;
    e->is_collapse = is_collapse;
    journal_cuts_finish(&e->cuts);
    journal_cuts_init(&e->cuts);
}

static int add_run(struct expunge *e, const struct run *run, uint64_t end, struct str head)
{
    const struct run *last = e->run_count > 0 ? &e->runs[e->run_count - 1] : NULL;
    int r;

    if (e->run_count == e->run_cap) {
        size_t cap = e->run_cap == 0 ? 16 : e->run_cap * 2;
        struct run *more = realloc(e->runs, cap * sizeof(*more));

        if (more == NULL)
            return -ENOMEM;
        e->runs = more;
        e->run_cap = cap;
        last = e->run_count > 0 ? &e->runs[e->run_count - 1] : NULL;
    }
    if (!(e->is_collapse && end == run->to) && (r = journal_cuts_add(&e->cuts, run->from, end, run->at, head)) < 0)
        return r;
    e->runs[e->run_count] = *run;
    e->runs[e->run_count++].before = last == NULL ? 0 : last->before + last->cut;
    return 0;
}

/* Whole blocks inside of a run, which leave its From_ line and the empty line at its end. */
static void whole_blocks(struct run *run, uint64_t from_length, uint64_t block)
{
    uint64_t end;

    if (block == 0 || run->to - run->from <= from_length + SEPARATOR)
        return;
    run->at = (run->from + from_length + block - 1) / block * block;
    end = (run->to - SEPARATOR) / block * block;
    run->cut = end > run->at ? end - run->at : 0;
}

/* A run and the message behind it. -ENOBUFS: not this way. */
static int add_collapse(struct expunge *e, const struct index_record *first, uint64_t next,
                        const struct index_record *rec, uint64_t block)
{
    _cleanup_buf_ struct buf head = BUF_INIT(REWRITE_HEADER_MAX * 2);
    uint64_t from = first->offset;
    struct run run = {.from = from, .to = rec->offset, .next = next, .has_base = from == e->b->ix.head->prefix};
    struct rewrite_head made;
    int r;

    whole_blocks(&run, first->from_length, block);
    do {
        run.room = (int64_t)(run.to - from - run.cut);
        if (run.room > ROOM_MOST)
            return -ENOBUFS;
        r = rewrite_head(e->b, rec, run.has_base, run.room, &head, &made);
        if (r != -ENOBUFS || run.cut == 0)
            break;
        run.cut -= block; /* too little for a block: one more stays */
    } while (true);
    if (r < 0)
        return r == -EFBIG || r == -ESTALE ? -ENOBUFS : r;
    run.block = made.block;
    return add_run(e, &run, rec->offset + made.span, buf_str(&head));
}

/* A run that is moved over; the message behind it gets a new block if it is the first now, or is padded. */
static int add_move(struct expunge *e, uint64_t from, uint64_t next, const struct index_record *rec)
{
    _cleanup_buf_ struct buf head = BUF_INIT(REWRITE_HEADER_MAX * 2);
    struct run run = {.from = from, .to = rec->offset, .next = next, .has_base = from == e->b->ix.head->prefix};
    struct rewrite_head made;
    int r = -ENOBUFS;

    if (run.has_base || rec->block > PADDED)
        r = rewrite_head(e->b, rec, run.has_base, REWRITE_LEAST, &head, &made);
    if (r == 0 && made.room < (int64_t)(run.to - from)) {
        run.cut = (uint64_t)((int64_t)(run.to - from) - made.room);
        run.room = made.room;
        run.block = made.block;
        return add_run(e, &run, rec->offset + made.span, buf_str(&head));
    }
    if (r < 0 && r != -EFBIG && r != -ESTALE && r != -ENOBUFS)
        return r;
    run.next = EXPUNGE_NONE;
    run.cut = run.to - from;
    return run.cut == 0 ? 0 : add_run(e, &run, run.to, STR_NULL);
}

static int add_end(struct expunge *e, uint64_t from)
{
    struct run run = {.from = from, .to = (uint64_t)e->b->facts.st_size, .next = EXPUNGE_NONE};

    run.cut = run.to - from;
    return add_run(e, &run, run.to, STR_NULL);
}

/* Records in the order of the file, from the first doomed one on. */
static int walk(struct expunge *e, bool is_collapse, uint64_t block)
{
    const struct index *ix = &e->b->ix;
    struct index_record first = {0}, rec;
    bool has_first = false;
    uint64_t at = e->doomed[0].offset;
    size_t doomed = 0;
    int r = 0;

    plan_start(e, is_collapse);
    for (uint64_t i = e->doomed[0].position; r == 0 && i < ix->head->count; i++) {
        rec = index_load(ix, i);
        if (rec.bits & INDEX_EXPUNGED)
            continue;
        if (!index_is_valid(&rec) || rec.offset != at)
            return index_spoil(e->b);
        at = rec.offset + rec.length;
        if (doomed < e->count && e->doomed[doomed].position == i) {
            first = has_first ? first : rec;
            has_first = true;
            doomed++;
            continue;
        }
        if (!is_collapse)
            r = add_move(e, has_first ? first.offset : rec.offset, i, &rec);
        else if (has_first)
            r = add_collapse(e, &first, i, &rec, block);
        has_first = false;
        if (is_collapse && doomed == e->count)
            return r;
    }
    if (r == 0 && at != (uint64_t)e->b->facts.st_size) /* one that came while the file was made longer is not in it */
        r = at == ix->head->size && at < (uint64_t)e->b->facts.st_size ? -EAGAIN : index_spoil(e->b);
    return r < 0 || !has_first ? r : add_end(e, first.offset);
}

/* Records and file are in different orders: nothing but the bytes. */
static int walk_unordered(struct expunge *e)
{
    struct run run = {.from = e->doomed[0].offset, .to = e->doomed[0].offset, .next = EXPUNGE_NONE};
    int r = 0;

    plan_start(e, false);
    for (size_t i = 0; r == 0 && i < e->count; i++) {
        if (e->doomed[i].offset < run.to)
            return index_spoil(e->b);
        if (e->doomed[i].offset > run.to) {
            run.cut = run.to - run.from;
            r = add_run(e, &run, run.to, STR_NULL);
            run.from = e->doomed[i].offset;
        }
        run.to = e->doomed[i].offset + e->doomed[i].length;
    }
    if (run.to > (uint64_t)e->b->facts.st_size)
        return index_spoil(e->b);
    run.cut = run.to - run.from;
    return r < 0 ? r : add_run(e, &run, run.to, STR_NULL);
}

static size_t count_runs(const struct expunge *e)
{
    size_t n = 1;

    for (size_t i = 1; i < e->count; i++)
        n += e->doomed[i - 1].offset + e->doomed[i - 1].length != e->doomed[i].offset;
    return n;
}

/* Is there so much padding in the file that it is to be written anew behind the first run? */
static bool is_padded(const struct expunge *e)
{
    const struct index *ix = &e->b->ix;
    uint64_t padding = 0, size = (uint64_t)e->b->facts.st_size;

    for (uint64_t i = 0; i < ix->head->count; i++)
        if (!(index_brief(ix, i)->bits & INDEX_EXPUNGED) && index_brief(ix, i)->block > PADDED)
            padding += index_brief(ix, i)->block;
    return padding > PADDING_LEAST && padding > size / PADDING_SHARE;
}

/* One of the ways, the one by giving blocks back if it may be. */
static int plan(struct expunge *e, bool may_collapse)
{
    struct box *b = e->b;
    uint64_t size = (uint64_t)b->facts.st_size, from = e->doomed[0].offset;
    int r;

    if (!b->ix.head->is_ordered)
        return walk_unordered(e);
    if (may_collapse && size - from >= COLLAPSE_LEAST && count_runs(e) <= COLLAPSE_MOST && !is_padded(e)) {
        r = walk(e, true, journal_block_size(b, from));
        if (r != -ENOBUFS && !(r == 0 && e->cuts.count == 0))
            return r;
    }
    return walk(e, false, 0);
}

/* Would somebody take the file for one that he knows, see remember.h? What is in front of the first run is what it was.
 * No message moves down, and sizes stand at the end of the file: most messages need no closer look. */
static bool is_mistakable(const struct expunge *e)
{
    const struct index *ix = &e->b->ix;
    const struct run *last = &e->runs[e->run_count - 1];
    uint64_t from = e->doomed[0].offset, at = (uint64_t)e->b->facts.st_size - last->before - last->cut;
    uint64_t least = remember_least(ix->head);

    if (at > from && remember_has(ix->head, at))
        return true;
    for (uint64_t i = ix->head->is_ordered ? e->doomed[0].position : 0; i < ix->head->count; i++) {
        uint64_t offset = index_offset(ix, i);

        if (offset <= from || offset < least || (index_brief(ix, i)->bits & INDEX_EXPUNGED) || expunge_is_doomed(e, i))
            continue;
        at = expunge_place(e, i);
        if (at > from && remember_has(ix->head, at))
            return true;
    }
    return false;
}

int expunge_plan(struct expunge *e)
{
    bool may_collapse = true;
    int r = plan(e, true);

    for (unsigned n = 1; r == 0 && n < PLANS_MOST && is_mistakable(e); n++) {
        r = expunge_lengthen(e);
        /* To move gigabytes would take minutes, with the mailbox locked; that a mutt has just this mailbox open, and
         * writes it, is rare. */
        if (r == -ENOBUFS && (!e->is_collapse || (uint64_t)e->b->facts.st_size - e->doomed[0].offset > MOVED_MOST))
            return 0;
        if (r == -ENOBUFS)
            may_collapse = false;
        else if (r < 0)
            return r;
        r = plan(e, may_collapse);
    }
    return r;
}
