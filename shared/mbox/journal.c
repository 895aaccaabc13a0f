/*
 * Writing the redo journal and carrying it out. Runs as the user under BOX_WRITE and BOX_STATE; touches NAME.journal in
 * the state folder and the mbox file.
 *
 * The new end of the file is made window by window, in place, from the front. Where old and new places are far apart a
 * window is copied directly: its source is not overwritten by itself, so a crash is mended by copying again. Where they
 * are near, the window's content goes into the journal first, as much as it takes to make them far apart. Before each
 * window a progress slot says, durably, that everything before it is durable. At last a nonce is written over the
 * doomed bytes where the file will end, and the file is cut: as long as the nonce (or what stood there) is found, it
 * has not been cut yet, and what follows the old size is mail that came meanwhile.
 */
#include "shared/mbox/journal_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/mbox/hash.h"

#define STEP        (64u << 10) /* copied at a time: what was read is in the processor's cache when it is written */
#define START_LEAST (1u << 20)  /* bytes handed to the disk at a time */

_Static_assert(STEP <= JOURNAL_COPY, "it goes through the buffer");

uint64_t journal_head_check(const struct journal_head *h)
{
    return mhash64(h, offsetof(struct journal_head, check));
}

uint64_t journal_slot_check(const struct journal_slot *slot)
{
    return mhash64(slot, offsetof(struct journal_slot, check));
}

bool journal_is_cut_into(const struct journal *j, const struct journal_slot *slot)
{
    return slot->is_direct && journal_source(&j->plan, slot->at) < j->head.new_size + JOURNAL_CLEAR;
}

int journal_edge(struct journal *j, uint64_t offset, uint64_t end, uint64_t *ret)
{
    uint8_t bytes[JOURNAL_EDGE];
    uint64_t len = end > offset ? end - offset : 0;
    int r;

    if (len > sizeof(bytes))
        len = sizeof(bytes);
    if ((r = file_read(j->b->fd, bytes, len, offset)) < 0)
        return r;
    *ret = mhash64(bytes, len);
    return 0;
}

/* Reads output bytes as they will be; `len` at most JOURNAL_COPY. */
int journal_output(struct journal *j, uint64_t at, uint8_t *data, size_t len)
{
    size_t i = journal_piece_at(&j->plan, at);
    int r;

    while (len > 0) {
        const struct journal_piece *p = &j->plan.pieces[i++];
        uint64_t skip = at - p->to;
        size_t n = p->len - skip < len ? (size_t)(p->len - skip) : len;

        if (p->from >= JOURNAL_LITERAL)
            memcpy(data, j->plan.literals.data + (p->from - JOURNAL_LITERAL) + skip, n);
        else if ((r = file_read(j->b->fd, data, n, p->from + skip)) < 0)
            return r;
        data += n;
        at += n;
        len -= n;
    }
    return 0;
}

static uint64_t window_place(const struct journal *j, uint64_t sequence)
{
    return j->head.windows + (sequence & 1) * j->head.block;
}

/* What was written up to `done`, from `at` on, is on its way to the disk while the next is copied. */
struct started {
    int fd;
    uint64_t at;
    uint64_t done;
};

static void start_writing(struct started *s, uint64_t done, bool is_last)
{
    if (done - s->done < START_LEAST && !is_last)
        return;
    (void)sync_file_range(s->fd, (off_t)(s->at + s->done), (off_t)(done - s->done), SYNC_FILE_RANGE_WRITE);
    s->done = done;
}

static size_t step(uint64_t rest)
{
    return rest < STEP ? (size_t)rest : STEP;
}

int journal_window(struct journal *j, const struct journal_slot *slot)
{
    struct started started = {.fd = j->b->fd, .at = slot->at};
    uint64_t done = 0;
    int r;

    while (done < slot->len) {
        size_t n = step(slot->len - done);

        if (slot->is_direct)
            r = journal_output(j, slot->at + done, j->copy, n);
        else
            r = file_read(j->fd, j->copy, n, window_place(j, slot->sequence) + done);
        if (r < 0 || (r = file_write(j->b->fd, j->copy, n, slot->at + done)) < 0)
            return r;
        done += n;
        start_writing(&started, done, done == slot->len);
    }
    return 0;
}

int journal_window_sum(struct journal *j, const struct journal_slot *slot, uint64_t *ret)
{
    static const uint64_t no_key[2];
    struct mhash h;
    uint8_t sum[16];
    int r;

    mhash_init(&h, no_key);
    for (uint64_t done = 0; done < slot->len;) {
        size_t n = slot->len - done < JOURNAL_COPY ? (size_t)(slot->len - done) : JOURNAL_COPY;

        if ((r = file_read(j->fd, j->copy, n, window_place(j, slot->sequence) + done)) < 0)
            return r;
        mhash_add(&h, j->copy, n);
        done += n;
    }
    mhash_done(&h, sum);
    memcpy(ret, sum, sizeof(*ret));
    return 0;
}

/* The content of a window into the journal. */
static int store_window(struct journal *j, struct journal_slot *slot)
{
    static const uint64_t no_key[2];
    struct started started = {.fd = j->fd, .at = window_place(j, slot->sequence)};
    struct mhash h;
    uint8_t sum[16];
    uint64_t done = 0;
    int r;

    mhash_init(&h, no_key);
    while (done < slot->len) {
        size_t n = step(slot->len - done);

        if ((r = journal_output(j, slot->at + done, j->copy, n)) < 0 ||
            (r = file_write(j->fd, j->copy, n, started.at + done)) < 0)
            return r;
        mhash_add(&h, j->copy, n);
        done += n;
        start_writing(&started, done, done == slot->len);
    }
    mhash_done(&h, sum);
    memcpy(&slot->content, sum, sizeof(slot->content));
    return 0;
}

static int store_slot(struct journal *j, struct journal_slot *slot)
{
    uint64_t source = journal_source(&j->plan, slot->at + slot->len);
    int r;

    if ((r = journal_edge(j, source, j->plan.old_size, &slot->next)) < 0)
        return r;
    slot->check = journal_slot_check(slot);
    return file_write(j->fd, slot, sizeof(*slot), j->head.slots + (slot->sequence & 1) * JOURNAL_ALIGN);
}

/* Can what is so far away be copied without the journal? */
static bool crosses(const struct journal *j, uint64_t gap)
{
    return gap >= JOURNAL_DIRECT || gap >= j->head.block;
}

static uint64_t shorter(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How much goes through the journal. A short rest does at once, for fewer steps. */
static uint64_t window_length(const struct journal *j, uint64_t at)
{
    uint64_t len = JOURNAL_DIRECT;

    if (j->head.new_size - at <= 2 * JOURNAL_WIDE)
        return j->head.block;
    while (len < j->head.block && journal_source(&j->plan, at + len) - (at + len) < JOURNAL_WIDE)
        len *= 2;
    return shorter(len, j->head.block);
}

/* j->slot and its window, not durable yet. */
static int choose_window(struct journal *j, uint64_t at)
{
    uint64_t rest = j->head.new_size - at;
    uint64_t gap = journal_source(&j->plan, at) - at;
    bool is_direct = crosses(j, gap) || gap >= rest;
    uint64_t most = is_direct ? gap : window_length(j, at);
    int r;

    j->slot =
        (struct journal_slot){.sequence = ++j->sequence, .at = at, .len = shorter(rest, most), .is_direct = is_direct};
    r = is_direct ? 0 : store_window(j, &j->slot);
    return r < 0 ? r : store_slot(j, &j->slot);
}

int journal_move_arrived(struct journal *j, uint64_t size)
{
    struct journal_plan plan;
    bool is_begun;
    int r;

    journal_plan_init(&plan, j->head.new_size, size);
    r = journal_plan_copy(&plan, j->head.old_size, size - j->head.old_size);
    if (r == 0)
        r = journal_move_instead(j, &plan, &is_begun);
    journal_plan_finish(&plan);
    return r;
}

/* A tiny message makes a gap that is shorter than a nonce. */
static int cut(struct journal *j)
{
    struct box *b = j->b;
    size_t len = (size_t)shorter(j->head.old_size - j->head.new_size, JOURNAL_NONCE);
    struct stat st;
    int r;

    /* Who knows none of our locks, or could not be told by a dotlock, may have appended all the while, or have written
     * the file anew. */
    if (fstat(b->fd, &st) < 0)
        return -errno;
    if ((uint64_t)st.st_size < j->head.old_size)
        return -ESTALE;
    if ((r = file_write(b->fd, j->head.nonce, len, j->head.new_size)) < 0)
        return r;
    if (fdatasync(b->fd) < 0 || fstat(b->fd, &st) < 0)
        return -errno;
    if ((uint64_t)st.st_size != j->head.old_size)
        return (uint64_t)st.st_size > j->head.old_size ? journal_move_arrived(j, (uint64_t)st.st_size) : -ESTALE;
    if (ftruncate(b->fd, (off_t)j->head.new_size) < 0 || fsync(b->fd) < 0)
        return -errno;
    return 0;
}

int journal_fill(struct journal *j, uint64_t at)
{
    int r;

    while (at < j->head.new_size) {
        if (!j->is_ready && (r = choose_window(j, at)) < 0)
            return r;
        if (!j->is_ready && fdatasync(j->fd) < 0)
            return -errno;
        j->is_ready = false;
        if ((r = journal_window(j, &j->slot)) < 0)
            return r;
        at += j->slot.len;
        /* The last window may become durable together with the nonce, if it can still be made anew then. */
        if ((at < j->head.new_size || journal_is_cut_into(j, &j->slot)) && fdatasync(j->b->fd) < 0)
            return -errno;
        box_touch(j->b);
    }
    return 0;
}

int journal_move(struct journal *j, uint64_t at)
{
    int r = journal_fill(j, at);

    return r < 0 ? r : cut(j);
}

/* ---- the file ---- */

static uint64_t align(uint64_t n)
{
    return (n + JOURNAL_ALIGN - 1) / JOURNAL_ALIGN * JOURNAL_ALIGN;
}

uint64_t journal_tail(const struct journal_head *h)
{
    uint64_t tail = h->new_size + JOURNAL_NONCE;

    return h->old_size > tail + JOURNAL_EDGE ? h->old_size - JOURNAL_EDGE : shorter(tail, h->old_size);
}

static int fill_head(struct journal *j)
{
    struct journal_head *h = &j->head;
    uint64_t pieces = j->plan.count * sizeof(struct journal_piece);
    int r;

    h->magic = JOURNAL_MAGIC;
    h->dev = j->b->facts.st_dev;
    h->ino = j->b->facts.st_ino;
    h->start = j->plan.start;
    h->old_size = j->plan.old_size;
    h->new_size = h->kind == JOURNAL_PATCH ? h->old_size : journal_plan_end(&j->plan);
    h->count = j->plan.count;
    h->literals = j->plan.literals.len;
    h->slots = align(sizeof(*h) + pieces + h->literals);
    h->windows = h->slots + 2 * JOURNAL_ALIGN;
    if ((r = secret_random(h->nonce, sizeof(h->nonce))) < 0)
        return r;
    if ((r = journal_edge(j, h->start > JOURNAL_EDGE ? h->start - JOURNAL_EDGE : 0, h->start, &h->before)) < 0)
        return r;
    /* Neither of these is ever overwritten by the move, but for the nonce. */
    if (h->kind == JOURNAL_MOVE) {
        h->gap_len = (uint32_t)shorter(h->old_size - h->new_size, JOURNAL_EDGE);
        h->tail_len = (uint32_t)(h->old_size - journal_tail(h));
        if ((r = file_read(j->b->fd, h->gap, h->gap_len, h->new_size)) < 0 ||
            (r = file_read(j->b->fd, h->tail, h->tail_len, journal_tail(h))) < 0)
            return r;
    }
    h->body = mhash64(j->plan.pieces, pieces) ^ mhash64(j->plan.literals.data, h->literals);
    h->check = journal_head_check(h);
    return 0;
}

static int reserve_windows(struct journal *j, uint64_t gap, uint64_t rest)
{
    uint64_t first = shorter(rest, window_length(j, j->head.start)), next = j->head.start + first;
    int r = file_allocate(j->fd, j->head.slots, 2 * JOURNAL_ALIGN);

    if (r < 0 || crosses(j, gap) || gap >= rest)
        return r;
    if (first == rest || crosses(j, journal_least_gap(&j->plan, next))) /* only the window of sequence 1 is used */
        return file_allocate(j->fd, window_place(j, 1), first);
    return file_allocate(j->fd, j->head.windows, 2 * j->head.block);
}

/* Blocks for the windows are taken before anything is touched: the disk cannot fill up in the middle. Where there is
 * little room the windows are small. */
static int reserve(struct journal *j)
{
    uint64_t gap = journal_source(&j->plan, j->head.start) - j->head.start;
    uint64_t rest = j->head.new_size - j->head.start;
    int r;

    for (j->head.block = JOURNAL_WINDOW;; j->head.block /= 16) {
        r = reserve_windows(j, gap, rest);
        if ((r != -ENOSPC && r != -EDQUOT) || j->head.block <= JOURNAL_TIGHT ||
            rest > JOURNAL_STEPS * (uint64_t)(j->head.block / 16) ||
            ftruncate(j->fd, (off_t)j->head.slots) < 0) /* what it did get */
            return r;
    }
}

static int store_plan(struct journal *j)
{
    uint64_t pieces = j->plan.count * sizeof(struct journal_piece);
    int r = file_write(j->fd, j->plan.pieces, pieces, sizeof(j->head));

    if (r == 0)
        r = file_write(j->fd, j->plan.literals.data, j->head.literals, sizeof(j->head) + pieces);
    if (r < 0 || j->head.kind != JOURNAL_MOVE || (r = reserve(j)) < 0 || j->head.start == j->head.new_size)
        return r;
    r = choose_window(j, j->head.start);
    j->is_ready = r == 0;
    return r;
}

/* Is what it says still to be done? One that could not be removed is void. */
static bool is_pending(const char *path)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    uint64_t magic;

    return fd < 0 || (file_read(fd, &magic, sizeof(magic), offsetof(struct journal_head, magic)) == 0 && magic != 0);
}

/* A file for the journal: under its own name if there is none yet (it counts only with its head, which is written
 * last), else beside the one whose place it takes. */
static int open_journal(struct journal *j, const char *final, const char *beside, bool *ret_beside)
{
    const int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC;

    *ret_beside = false;
    j->fd = open(final, flags | O_EXCL, 0600);
    if (j->fd < 0 && errno == EEXIST) {
        if (!j->takes_place && is_pending(final))
            return -EBUSY;
        *ret_beside = true;
        j->fd = open(beside, flags | O_TRUNC, 0600);
    }
    return j->fd < 0 ? -errno : 0;
}

int journal_write_with(struct journal *j, int (*store)(struct journal *j))
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_buf_ struct buf final = BUF_INIT(LIMIT_CONF_VALUE * 8);
    bool is_beside;
    int r;

    if ((r = buf_printf(&path, "%s.journal.new", j->b->side)) < 0 ||
        (r = buf_printf(&final, "%s.journal", j->b->side)) < 0 || (r = fill_head(j)) < 0 ||
        (r = open_journal(j, buf_cstr(&final), buf_cstr(&path), &is_beside)) < 0)
        return r;
    r = store(j);
    j->head.check = journal_head_check(&j->head);
    if (r == 0)
        r = file_write(j->fd, &j->head, sizeof(j->head), 0);
    if (r == 0 && fsync(j->fd) < 0)
        r = -errno;
    if (r == 0 && is_beside && rename(buf_cstr(&path), buf_cstr(&final)) < 0)
        r = -errno;
    if (r < 0)
        (void)unlink(buf_cstr(is_beside ? &path : &final));
    return r < 0 ? r : file_sync_folder(buf_cstr(&final));
}

int journal_write(struct journal *j)
{
    return journal_write_with(j, store_plan);
}

int journal_remove(struct box *b)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    int r = buf_printf(&path, "%s.journal", b->side);

    if (r < 0)
        return r;
    if (unlink(buf_cstr(&path)) < 0)
        return errno == ENOENT ? 0 : -errno;
    return file_sync_folder(buf_cstr(&path)); /* an old one that came back would undo what was done since */
}

int journal_end(struct journal *j)
{
    static const struct journal_head nothing;
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    int r = buf_printf(&path, "%s.journal", j->b->side);

    if (r < 0)
        return r;
    if (file_write(j->fd, &nothing, sizeof(nothing), 0) < 0 || fdatasync(j->fd) < 0)
        return journal_remove(j->b);
    (void)unlink(buf_cstr(&path));
    return 0;
}

int journal_carry_out(struct box *b, const struct journal_plan *plan, enum journal_kind kind)
{
    struct journal j = {.b = b, .fd = -1, .head = {.kind = kind}, .plan = *plan, .copy = malloc(JOURNAL_COPY)};
    int r;

    r = j.copy == NULL ? -ENOMEM : journal_write(&j);
    if (r == 0)
        r = kind == JOURNAL_MOVE ? journal_move(&j, plan->start) : journal_patch_all(&j);
    if (r == 0)
        r = journal_end(&j);
    close_fd(&j.fd);
    free(j.copy);
    return r;
}

int journal_move_instead(struct journal *j, const struct journal_plan *plan, bool *ret_begun)
{
    struct journal next = {
        .b = j->b, .fd = -1, .head = {.kind = JOURNAL_MOVE}, .plan = *plan, .takes_place = true, .copy = j->copy};
    int r = journal_write(&next);

    *ret_begun = r == 0;
    if (r == 0)
        r = journal_move(&next, plan->start);
    if (r == 0)
        r = journal_end(&next);
    close_fd(&next.fd);
    return r;
}

int journal_run(struct box *b, const struct journal_plan *plan)
{
    if (journal_plan_end(plan) >= plan->old_size)
        return -EINVAL;
    return journal_carry_out(b, plan, JOURNAL_MOVE);
}
