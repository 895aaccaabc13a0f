/*
 * Taking whole blocks out of the middle of an mbox file (FALLOC_FL_COLLAPSE_RANGE): the time does not depend on how
 * much follows. What is left of the doomed bytes goes into the header of the message behind them as padding. Runs as
 * the user under BOX_WRITE and BOX_STATE; touches NAME.journal and the mbox file.
 *
 * A collapse done twice would eat mail, so a nonce is written into the first of the blocks that go, durably, and then
 * the journal says, durably, that it is there: as long as it is found, the blocks have not gone. The holes are taken
 * from the last to the first, so that the places of those to come stay what they were; then, when all are out durably,
 * the headers are written. In between, the rests of the doomed messages stand where they were, with their From_ lines
 * and the empty lines at their ends: what comes before and behind them stays as it was for every reader.
 *
 * mutt reads a mailbox that became shorter without any lock, and then knows it by its size alone. So that what it may
 * read in between is not taken for the file as it is in the end, the file is meanwhile longer by one more empty line.
 *
 * XFS moves extent by extent, and a crash leaves a hole as long as the blocks somewhere behind their place, everything
 * in front of it being moved already: replay finds it and goes on from there.
 */
#include "shared/mbox/journal_collapse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/hash.h"

#define HOLES_MAX 4096u /* far more than anyone takes out in one go */

enum progress { PROGRESS_BEGUN = 1, PROGRESS_CANCELLED, PROGRESS_MARKED /* begun, with the empty line */ };

/* In the place of the first slot. */
struct collapse_slot {
    uint64_t progress;
    uint8_t nonce[JOURNAL_NONCE];
    uint64_t check;
};

static size_t hole_count(const struct journal *j)
{
    return (size_t)j->head.count;
}

/* ---- the journal ---- */

static int put_slot(struct journal *j, enum progress progress)
{
    struct collapse_slot slot = {.progress = progress};
    int r;

    memcpy(slot.nonce, j->head.nonce, sizeof(slot.nonce));
    slot.check = mhash64(&slot, offsetof(struct collapse_slot, check));
    r = file_write(j->fd, &slot, sizeof(slot), j->head.slots);
    return r == 0 && fdatasync(j->fd) < 0 ? -errno : r;
}

/* 0: nothing was begun. */
static uint64_t get_slot(struct journal *j)
{
    struct collapse_slot slot;

    if (file_read(j->fd, &slot, sizeof(slot), j->head.slots) < 0 ||
        slot.check != mhash64(&slot, offsetof(struct collapse_slot, check)) ||
        memcmp(slot.nonce, j->head.nonce, sizeof(slot.nonce)) != 0)
        return 0;
    return slot.progress;
}

/* Where an interrupted collapse has got to: the file has a hole there that does not belong to it. */
struct displaced {
    uint64_t at;
    uint64_t len; /* 0: there is none */
};

/* Reads as if the hole were not there. */
static int read_around(struct journal *j, const struct displaced *hole, uint8_t *data, size_t len, uint64_t offset)
{
    size_t n = offset >= hole->at ? 0 : hole->at - offset < len ? (size_t)(hole->at - offset) : len;
    int r = file_read(j->b->fd, data, n, offset);

    return r < 0 ? r : file_read(j->b->fd, data + n, len - n, offset + n + hole->len);
}

/* Checksum of up to JOURNAL_EDGE bytes in front of a hole (not those of the hole before it) or behind it, of which
 * `shift` bytes in front of them are out already. */
static int edge(struct journal *j, size_t i, bool is_behind, uint64_t shift, const struct displaced *hole,
                uint64_t *ret)
{
    const struct journal_hole *own = &j->holes[i];
    uint8_t bytes[JOURNAL_EDGE];
    uint64_t from, to;
    int r;

    if (is_behind) {
        from = own->end;
        to = i + 1 < hole_count(j) ? own[1].from : j->head.old_size;
        to = to - from > JOURNAL_EDGE ? from + JOURNAL_EDGE : to;
    } else {
        to = own->from;
        from = i > 0 ? own[-1].end : 0;
        from = to - from > JOURNAL_EDGE ? to - JOURNAL_EDGE : from;
    }
    if ((r = read_around(j, hole, bytes, (size_t)(to - from), from - shift)) < 0)
        return r;
    *ret = mhash64(bytes, (size_t)(to - from));
    return 0;
}

static uint64_t body_sum(const struct journal *j)
{
    return mhash64(j->holes, hole_count(j) * sizeof(*j->holes)) ^ mhash64(j->plan.literals.data, j->plan.literals.len);
}

static int store(struct journal *j)
{
    static const uint8_t nothing[sizeof(struct collapse_slot)];
    static const struct displaced none;
    const struct journal_cuts *cuts = j->cuts;
    uint64_t holes = cuts->count * sizeof(*cuts->holes);
    int r;

    j->head.count = cuts->count;
    j->head.new_size = j->head.old_size - journal_holes_cut(cuts->holes, 0, cuts->count);
    for (size_t i = 0; i < hole_count(j); i++) {
        struct journal_hole *hole = &j->holes[i];

        if ((r = edge(j, i, false, 0, &none, &hole->before)) < 0 || (r = edge(j, i, true, 0, &none, &hole->behind)) < 0)
            return r;
        if (hole->cut > 0 && (r = file_read(j->b->fd, hole->old, sizeof(hole->old), hole->at)) < 0)
            return r;
    }
    j->head.slots = (sizeof(j->head) + holes + j->head.literals + JOURNAL_ALIGN - 1) / JOURNAL_ALIGN * JOURNAL_ALIGN;
    j->head.body = body_sum(j);
    if ((r = file_write(j->fd, j->holes, holes, sizeof(j->head))) < 0 ||
        (r = file_write(j->fd, j->plan.literals.data, j->head.literals, sizeof(j->head) + holes)) < 0)
        return r;
    return file_write(j->fd, nothing, sizeof(nothing), j->head.slots);
}

static bool is_hole_good(const struct journal *j, const struct journal_hole *hole, uint64_t from)
{
    return hole->from >= from && hole->end > hole->from && hole->end <= j->head.old_size &&
           hole->cut <= hole->end - hole->from && hole->literal <= j->head.literals &&
           journal_hole_literal(hole) <= j->head.literals - hole->literal && hole->cut % j->head.block == 0 &&
           (hole->cut == 0 || (hole->at >= hole->from && hole->at % j->head.block == 0 && hole->at <= hole->end &&
                               hole->cut <= hole->end - hole->at));
}

/* -EBADMSG: it was never finished. */
static int load_body(struct journal *j)
{
    struct journal_head *h = &j->head;
    uint64_t holes = h->count * sizeof(*j->holes), from = 0;
    int r;

    journal_plan_init(&j->plan, h->start, h->old_size);
    if (h->count == 0 || h->count > HOLES_MAX || h->block == 0 || h->old_size > INT64_MAX)
        return -EBADMSG;
    j->holes = malloc(holes);
    if (j->holes == NULL)
        return -ENOMEM;
    if ((r = file_read(j->fd, j->holes, holes, sizeof(*h))) < 0 ||
        (r = buf_reserve(&j->plan.literals, h->literals)) < 0 ||
        (r = file_read(j->fd, j->plan.literals.data, h->literals, sizeof(*h) + holes)) < 0)
        return r == -ENODATA ? -EBADMSG : r;
    j->plan.literals.len = h->literals;
    if (h->body != body_sum(j))
        return -EBADMSG;
    for (size_t i = 0; i < hole_count(j); i++) {
        if (!is_hole_good(j, &j->holes[i], from))
            return -EBADMSG;
        from = j->holes[i].end;
    }
    return 0;
}

/* ---- carrying it out ---- */

/* The empty line at the end. Where there is no room for it the rest has to do without. */
static int put_mark(struct journal *j)
{
    uint64_t end = j->head.old_size, at;
    char bytes[3] = "", mail[5] = "";
    struct stat st;
    size_t n;
    int r;

    j->is_marked = false;
    if (end < 2)
        return 0;
    if ((r = file_read(j->b->fd, bytes, 2, end - 2)) < 0)
        return r == -ENODATA ? 0 : r;
    if (bytes[0] != '\n' || bytes[1] != '\n' || fstat(j->b->fd, &st) < 0)
        return 0;
    if ((uint64_t)st.st_size == end)
        (void)file_append(j->b->fd, "\n", 1, &at, &n);
    if (fstat(j->b->fd, &st) < 0)
        return -errno;
    if ((uint64_t)st.st_size <= end)
        return 0;
    if ((r = file_read(j->b->fd, bytes + 2, 1, end)) < 0)
        return r;
    /* After a crash, perhaps with mail behind it. */
    (void)file_read(j->b->fd, mail, sizeof(mail), end + 1);
    if (bytes[2] == '\0' && ((uint64_t)st.st_size == end + 1 || memcmp(mail, "From ", sizeof(mail)) == 0))
        j->is_marked = file_write(j->b->fd, "\n", 1, end) == 0;
    else
        j->is_marked = bytes[2] == '\n'; /* perhaps with mail behind it; or that mail's own */
    return 0;
}

/* Takes it away when nothing stands behind it in a file that is to be `size` long. */
static int take_mark(struct journal *j, uint64_t size)
{
    struct stat st;

    if (!j->is_marked)
        return 0;
    if (fstat(j->b->fd, &st) < 0 || ((uint64_t)st.st_size == size + 1 && ftruncate(j->b->fd, (off_t)size) < 0))
        return -errno;
    return 0;
}

/* What was appended behind it meanwhile moves up by one byte. */
static int close_mark(struct journal *j)
{
    struct journal next = *j;
    struct stat st;
    char byte;
    int r;

    if (!j->is_marked)
        return 0;
    if (fstat(j->b->fd, &st) < 0)
        return -errno;
    if ((uint64_t)st.st_size <= j->head.new_size + 1)
        return 0;
    if ((r = file_read(j->b->fd, &byte, 1, j->head.new_size)) < 0 || byte != '\n')
        return r; /* it was gone before */
    next.head.old_size = j->head.new_size + 1;
    return journal_move_arrived(&next, (uint64_t)st.st_size);
}

/* Do blocks go at all? Where none do, replay may begin anew at any time: what is written stands in the journal, goes to
 * where it went before, and the mark shows in the file. So nothing needs to be said of how far it has got. */
static bool has_cut(const struct journal *j)
{
    return journal_holes_cut(j->holes, 0, hole_count(j)) > 0;
}

static int put_nonces(struct journal *j)
{
    int r = put_mark(j);

    for (size_t i = 0; r == 0 && i < hole_count(j); i++)
        if (j->holes[i].cut > 0)
            r = file_write(j->b->fd, j->head.nonce, JOURNAL_NONCE, j->holes[i].at);
    if (r == 0 && fdatasync(j->b->fd) < 0)
        r = -errno;
    if (r < 0 || !has_cut(j))
        return r;
    return put_slot(j, j->is_marked ? PROGRESS_MARKED : PROGRESS_BEGUN);
}

/* Whatever of the nonces got there. */
static int take_back_nonces(struct journal *j)
{
    int r;

    j->is_marked = true; /* nobody else appends one byte */
    r = take_mark(j, j->head.old_size);

    for (size_t i = 0; r == 0 && i < hole_count(j); i++)
        if (j->holes[i].cut > 0)
            r = file_write(j->b->fd, j->holes[i].old, JOURNAL_NONCE, j->holes[i].at);
    return r == 0 && fdatasync(j->b->fd) < 0 ? -errno : r;
}

static int put_heads(struct journal *j)
{
    uint64_t shift = 0;
    int r = 0;

    for (size_t i = 0; r == 0 && i < hole_count(j); i++) {
        const struct journal_hole *hole = &j->holes[i];

        r = file_write(j->b->fd, j->plan.literals.data + hole->literal, journal_hole_literal(hole), hole->from - shift);
        shift += hole->cut;
    }
    if (r == 0)
        r = take_mark(j, j->head.new_size);
    /* With the times: at the same size an index of before must not seem to describe the file. */
    if (r == 0 && fsync(j->b->fd) < 0)
        r = -errno;
    return r == 0 ? close_mark(j) : r;
}

/* The holes from `done` on are out. Without the mark, durably: one that came back would be taken for mail; with mail
 * behind it, it goes together with the rest. */
static int plan_rest(struct journal *j, size_t done, struct journal_plan *plan)
{
    uint64_t end = j->head.old_size - journal_holes_cut(j->holes, done, hole_count(j)), size;
    bool is_behind;
    struct stat st;
    char byte = 0;
    int r;

    journal_plan_init(plan, 0, 0);
    if ((r = take_mark(j, end)) < 0)
        return r;
    if (fdatasync(j->b->fd) < 0 || fstat(j->b->fd, &st) < 0)
        return -errno;
    size = (uint64_t)st.st_size;
    if (j->is_marked && size > end + 1 && (r = file_read(j->b->fd, &byte, 1, end)) < 0)
        return r;
    is_behind = byte == '\n';
    r = journal_holes_plan(j->holes, hole_count(j), done, &j->plan.literals, is_behind ? end : size, plan);
    plan->old_size = size;
    return r == 0 && is_behind ? journal_plan_copy(plan, end + 1, size - end - 1) : r;
}

/* The file system refuses, or has no room for its own book-keeping: what is left is done by moving. */
static int move_rest(struct journal *j, size_t done)
{
    struct journal_plan plan;
    bool is_begun = false;
    int r = plan_rest(j, done, &plan);

    if (r == 0)
        r = journal_move_instead(j, &plan, &is_begun);
    journal_plan_finish(&plan);
    if (r == 0 || is_begun || journal_holes_cut(j->holes, done, hole_count(j)) > 0)
        return r;
    /* Not even that, and nothing is out yet: all is as it was. */
    if (put_slot(j, PROGRESS_CANCELLED) == 0 && take_back_nonces(j) == 0)
        (void)journal_end(j);
    return r;
}

static int collapse(struct box *b, uint64_t at, uint64_t len)
{
    int r;

    do {
        r = fallocate(b->fd, FALLOC_FL_COLLAPSE_RANGE, (off_t)at, (off_t)len) < 0 ? -errno : 0;
    } while (r == -EINTR);
    return r;
}

/* With the nonces in place; the holes from `done` on are out. */
static int carry_out(struct journal *j, size_t done)
{
    for (size_t i = done; i-- > 0;) {
        const struct journal_hole *hole = &j->holes[i];

        if (hole->cut == 0)
            continue;
        if (collapse(j->b, hole->at, hole->cut) < 0)
            return move_rest(j, i + 1);
        box_touch(j->b);
    }
    if (has_cut(j) && fsync(j->b->fd) < 0) /* else all of it was durable with the mark */
        return -errno;
    return put_heads(j);
}

int journal_collapse(struct box *b, const struct journal_cuts *cuts)
{
    struct journal j = {.b = b, .fd = -1, .head = {.kind = JOURNAL_COLLAPSE}, .copy = malloc(JOURNAL_COPY)};
    int r = j.copy == NULL ? -ENOMEM : 0;

    j.plan = (struct journal_plan){
        .start = cuts->holes[0].from, .old_size = (uint64_t)b->facts.st_size, .literals = cuts->literals};
    j.cuts = cuts;
    j.holes = cuts->holes;
    j.head.block = journal_holes_cut(cuts->holes, 0, cuts->count) == 0
                       ? 512
                       : (uint32_t)journal_block_size(b, cuts->holes[0].from);
    if (r == 0 && (cuts->count > HOLES_MAX || j.head.block == 0))
        r = -EINVAL;
    if (r == 0)
        r = journal_write_with(&j, store);
    if (r == 0 && (r = put_nonces(&j)) == 0)
        r = carry_out(&j, cuts->count);
    if (r == 0)
        r = journal_end(&j);
    close_fd(&j.fd);
    free(j.copy);
    return r;
}

/* ---- after a crash ---- */

static bool has_nonce(struct journal *j, const struct journal_hole *hole)
{
    uint8_t bytes[JOURNAL_NONCE];

    return file_read(j->b->fd, bytes, sizeof(bytes), hole->at) == 0 && memcmp(bytes, j->head.nonce, sizeof(bytes)) == 0;
}

/* The first of the holes that are out. -ESTALE: there is no such order in what is found. */
static int find_done(struct journal *j, size_t *ret)
{
    size_t done = hole_count(j);

    while (done > 0 && (j->holes[done - 1].cut == 0 || !has_nonce(j, &j->holes[done - 1])))
        done--;
    for (size_t i = 0; i < done; i++)
        if (j->holes[i].cut > 0 && !has_nonce(j, &j->holes[i]))
            return -ESTALE;
    *ret = done;
    return 0;
}

/* Is everything around the holes as it was? */
static bool has_edges(struct journal *j, size_t done, const struct displaced *hole)
{
    uint64_t shift = 0, sum;

    for (size_t i = 0; i < hole_count(j); i++) {
        if (edge(j, i, false, shift, hole, &sum) < 0 || sum != j->holes[i].before)
            return false;
        if (i >= done)
            shift += j->holes[i].cut;
        if (edge(j, i, true, shift, hole, &sum) < 0 || sum != j->holes[i].behind)
            return false;
    }
    return true;
}

/* The hole that an interrupted collapse left behind its place: only XFS does that. -ESTALE: there is one that it did
 * not leave. */
static int find_displaced(struct journal *j, size_t done, struct displaced *ret)
{
    struct box *b = j->b;
    off_t size = lseek(b->fd, 0, SEEK_END), hole, data;

    *ret = (struct displaced){0};
    while (done < hole_count(j) && j->holes[done].cut == 0)
        done++;
    if (done == hole_count(j))
        return 0;
    hole = lseek(b->fd, (off_t)j->holes[done].at, SEEK_HOLE);
    if (size < 0 || (hole < 0 && errno != ENXIO))
        return -errno;
    if (hole < 0 || hole >= size)
        return 0;
    data = lseek(b->fd, hole, SEEK_DATA);
    if (data < 0 && errno != ENXIO)
        return -errno;
    if (data < 0)
        data = size;
    *ret = (struct displaced){(uint64_t)hole, (uint64_t)(data - hole)};
    return ret->len == j->holes[done].cut ? 0 : -ESTALE;
}

/* Takes it out. */
static int finish_displaced(struct journal *j, const struct displaced *hole)
{
    off_t size = lseek(j->b->fd, 0, SEEK_END);

    if (size < 0)
        return -errno;
    if (hole->at + hole->len == (uint64_t)size)
        return ftruncate(j->b->fd, (off_t)hole->at) < 0 ? -errno : 0;
    return collapse(j->b, hole->at, hole->len);
}

int journal_finish_collapse(struct journal *j)
{
    struct displaced hole = {0};
    uint64_t progress;
    size_t done;
    int r;

    if ((r = load_body(j)) < 0)
        return r;
    progress = get_slot(j);
    if (progress == PROGRESS_MARKED) {
        j->is_marked = true;
        progress = PROGRESS_BEGUN;
    }
    done = hole_count(j);
    if (progress == PROGRESS_CANCELLED)
        return has_edges(j, done, &hole) ? take_back_nonces(j) : -ESTALE;
    if (progress == PROGRESS_BEGUN && ((r = find_done(j, &done)) < 0 || (r = find_displaced(j, done, &hole)) < 0))
        return r;
    if (!has_edges(j, done, &hole))
        return -ESTALE;
    if (hole.len > 0 && (r = finish_displaced(j, &hole)) < 0)
        return r;
    if (progress == 0 && (r = put_nonces(j)) < 0)
        return r;
    return carry_out(j, done);
}
