/*
 * Making the end of an mbox file longer in place. Runs as the user under BOX_WRITE and BOX_STATE; touches NAME.journal
 * and the mbox file.
 *
 * The whole new end goes into the journal, with a checksum of every block of the old one and one over all that is
 * stored: a power cut may leave the journal as long as it was to be, with anything in it. Then the file is extended,
 * durably (so that the disk cannot fill up in the middle), and written over. Replay looks at every block: each is the
 * old one, or the new one, or zeros behind the old size; anything else was written by somebody else, and nothing is
 * touched. Mail that arrived before the extension shows by all blocks being old: then nothing was begun.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/hash.h"
#include "shared/mbox/journal_file.h"

#define GROW_BLOCK 512u

/* The next piece of the changed end: up to the next block boundary of the file. */
static size_t block_length(uint64_t at, uint64_t end)
{
    uint64_t n = GROW_BLOCK - at % GROW_BLOCK;

    return (size_t)(end - at < n ? end - at : n);
}

static uint64_t content_place(const struct journal *j, uint64_t at)
{
    return j->head.windows + (at - j->head.start);
}

/* Checksums of the old blocks. */
static int add_sums(struct journal *j, struct buf *sums)
{
    for (uint64_t at = j->head.start, end = j->head.old_size; at < end;) {
        uint64_t most = JOURNAL_COPY - at % GROW_BLOCK; /* whole blocks */
        size_t n = (size_t)(end - at < most ? end - at : most), len;
        int r = file_read(j->b->fd, j->copy, n, at);

        for (size_t done = 0; r == 0 && done < n; done += len) {
            uint64_t sum;

            len = block_length(at + done, end);
            sum = mhash64(j->copy + done, len);
            r = buf_add(sums, &sum, sizeof(sum));
        }
        if (r < 0)
            return r;
        at += n;
    }
    return 0;
}

/* Checksums of the old blocks behind the head, the new content behind them. */
static int store(struct journal *j)
{
    _cleanup_buf_ struct buf sums = BUF_INIT((JOURNAL_GROW_MAX / GROW_BLOCK + 2) * sizeof(uint64_t));
    int r = add_sums(j, &sums);

    if (r < 0)
        return r;
    j->head.slots = sizeof(j->head);
    j->head.windows = (sizeof(j->head) + sums.len + JOURNAL_ALIGN - 1) / JOURNAL_ALIGN * JOURNAL_ALIGN;
    if ((r = file_write(j->fd, sums.data, sums.len, j->head.slots)) < 0)
        return r;
    j->head.body = mhash64(sums.data, sums.len);
    for (uint64_t at = j->head.start; at < j->head.new_size;) {
        size_t n = j->head.new_size - at < JOURNAL_COPY ? (size_t)(j->head.new_size - at) : JOURNAL_COPY;

        if ((r = journal_output(j, at, j->copy, n)) < 0 ||
            (r = file_write(j->fd, j->copy, n, content_place(j, at))) < 0)
            return r;
        j->head.body = j->head.body * 31 + mhash64(j->copy, n);
        at += n;
    }
    return 0;
}

/* Reads of the journal itself. -EBADMSG: so much of it never became durable. */
static int read_stored(struct journal *j, void *data, size_t len, uint64_t place)
{
    int r = file_read(j->fd, data, len, place);

    return r == -ENODATA ? -EBADMSG : r;
}

/* Does the journal hold all of what was stored? */
static int verify_stored(struct journal *j)
{
    uint64_t blocks = (j->head.old_size + GROW_BLOCK - 1) / GROW_BLOCK - j->head.start / GROW_BLOCK;
    _cleanup_free_ uint8_t *sums = NULL;
    uint64_t body;
    int r;

    if (j->head.new_size - j->head.start > JOURNAL_GROW_MAX * 2 ||
        j->head.old_size - j->head.start > JOURNAL_GROW_MAX || j->head.old_size < j->head.start ||
        j->head.new_size < j->head.old_size)
        return -EBADMSG;
    if (j->head.old_size == j->head.start)
        blocks = 0;
    sums = malloc(blocks * sizeof(uint64_t) + 1);
    if (sums == NULL)
        return -ENOMEM;
    if ((r = read_stored(j, sums, blocks * sizeof(uint64_t), j->head.slots)) < 0)
        return r;
    body = mhash64(sums, blocks * sizeof(uint64_t));
    for (uint64_t at = j->head.start; at < j->head.new_size;) {
        size_t n = j->head.new_size - at < JOURNAL_COPY ? (size_t)(j->head.new_size - at) : JOURNAL_COPY;

        if ((r = read_stored(j, j->copy, n, content_place(j, at))) < 0)
            return r;
        body = body * 31 + mhash64(j->copy, n);
        at += n;
    }
    return body == j->head.body ? 0 : -EBADMSG;
}

/* Where what is no zero ends between the old end and `size`, which is not behind the new one. */
static int end_of_text(struct journal *j, uint64_t size, uint64_t *ret)
{
    uint64_t end = j->head.old_size;
    int r;

    for (uint64_t at = end; at < size; at += JOURNAL_COPY) {
        size_t n = size - at < JOURNAL_COPY ? (size_t)(size - at) : JOURNAL_COPY;

        if ((r = file_read(j->b->fd, j->copy, n, at)) < 0)
            return r;
        while (n > 0 && j->copy[n - 1] == 0)
            n--;
        end = n > 0 ? at + n : end;
    }
    *ret = end;
    return 0;
}

/* Nothing was touched, and what room was made goes again; what somebody appended just before that stays. What he
 * appended behind it is in the way: then replay finishes everything. */
static int take_room_back(struct journal *j)
{
    uint64_t end, size;
    struct stat st;
    int r;

    if (fstat(j->b->fd, &st) < 0)
        return -errno;
    size = (uint64_t)st.st_size < j->head.new_size ? (uint64_t)st.st_size : j->head.new_size;
    if ((r = end_of_text(j, size, &end)) < 0)
        return r;
    if (end < size && (uint64_t)st.st_size > size)
        return -EBUSY;
    if (end < size && ftruncate(j->b->fd, (off_t)end) < 0)
        return -errno;
    return journal_end(j);
}

static int extend(struct journal *j)
{
    struct box *b = j->b;
    struct stat st;
    uint64_t end;
    int r;

    /* What was appended since by somebody who does not know our locks would be written over. */
    if (fstat(b->fd, &st) < 0 || (uint64_t)st.st_size != j->head.old_size) {
        (void)journal_end(j);
        return -EAGAIN;
    }
    r = file_allocate(b->fd, j->head.old_size, j->head.new_size - j->head.old_size);
    if (r == -EOPNOTSUPP || r == -EINVAL)
        r = ftruncate(b->fd, (off_t)j->head.new_size) < 0 ? -errno : 0;
    if (r == 0 && (r = end_of_text(j, j->head.new_size, &end)) == 0 && end > j->head.old_size)
        r = -EAGAIN; /* in that moment */
    if (r == 0 && fsync(b->fd) < 0)
        r = -errno;
    if (r < 0)
        (void)take_room_back(j);
    return r;
}

static int overwrite(struct journal *j)
{
    int r;

    for (uint64_t at = j->head.start; at < j->head.new_size;) {
        size_t n = j->head.new_size - at < JOURNAL_COPY ? (size_t)(j->head.new_size - at) : JOURNAL_COPY;

        if ((r = file_read(j->fd, j->copy, n, content_place(j, at))) < 0 ||
            (r = file_write(j->b->fd, j->copy, n, at)) < 0)
            return r;
        at += n;
    }
    return fsync(j->b->fd) < 0 ? -errno : 0;
}

int journal_grow(struct box *b, const struct journal_plan *plan)
{
    struct journal j = {.b = b, .fd = -1, .head = {.kind = JOURNAL_GROW}, .plan = *plan, .copy = malloc(JOURNAL_COPY)};
    uint64_t end = journal_plan_end(plan);
    int r;

    if (end < plan->old_size || end - plan->start > JOURNAL_GROW_MAX * 2 ||
        plan->old_size - plan->start > JOURNAL_GROW_MAX) {
        free(j.copy);
        return -EFBIG;
    }
    r = j.copy == NULL ? -ENOMEM : journal_write_with(&j, store);
    if (r == 0)
        r = end > plan->old_size ? extend(&j) : 0;
    if (r == 0)
        r = overwrite(&j);
    if (r == 0)
        r = journal_end(&j);
    close_fd(&j.fd);
    free(j.copy);
    return r;
}

struct look {
    bool is_all_old;
    bool is_all_new;
    bool is_odd;
    bool has_frontier; /* one block that is neither, with nothing but new ones before it: a write that was cut off */
};

static bool is_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return false;
    return true;
}

static void look_at_block(struct look *look, bool is_new, bool is_old)
{
    if (!is_new && !is_old) {
        look->is_odd |= look->has_frontier || !look->is_all_new;
        look->has_frontier = true;
    } else if (look->has_frontier && !is_old) {
        look->is_odd = true; /* new ones behind it */
    }
    look->is_all_new &= is_new;
    look->is_all_old &= is_old;
}

/* What is in the file from start on, block by block of the new end. */
static int look_at_blocks(struct journal *j, struct look *ret)
{
    uint64_t size = (uint64_t)j->b->facts.st_size, slot = j->head.slots, at = j->head.start;
    struct look look = {.is_all_old = true, .is_all_new = true};
    uint8_t now[GROW_BLOCK], next[GROW_BLOCK];
    uint64_t sum;
    int r;

    while (at < j->head.new_size && at < size) {
        size_t n = block_length(at, j->head.new_size);
        size_t old = at < j->head.old_size ? block_length(at, j->head.old_size) : 0;
        bool is_new, is_old = true;

        if (n > size - at)
            n = (size_t)(size - at);
        if ((r = file_read(j->b->fd, now, n, at)) < 0 || (r = file_read(j->fd, next, n, content_place(j, at))) < 0)
            return r;
        is_new = memcmp(now, next, n) == 0;
        if (old > 0) {
            if ((r = file_read(j->fd, &sum, sizeof(sum), slot)) < 0)
                return r;
            slot += sizeof(sum);
            is_old = n >= old && mhash64(now, old) == sum;
        }
        is_old = is_old && is_zero(now + old, n > old ? n - old : 0);
        look_at_block(&look, is_new, is_old);
        at += n;
    }
    look.is_all_old &= size >= j->head.old_size;
    look.is_all_new &= size >= j->head.new_size;
    *ret = look;
    return 0;
}

/* Are all the old blocks as they were, whatever stands behind them? */
static bool has_old_blocks(struct journal *j)
{
    uint64_t slot = j->head.slots, sum;
    uint8_t block[GROW_BLOCK];

    for (uint64_t at = j->head.start; at < j->head.old_size; at += block_length(at, j->head.old_size)) {
        size_t n = block_length(at, j->head.old_size);

        if (file_read(j->b->fd, block, n, at) < 0 || file_read(j->fd, &sum, sizeof(sum), slot) < 0 ||
            mhash64(block, n) != sum)
            return false;
        slot += sizeof(sum);
    }
    return true;
}

int journal_finish_grow(struct journal *j)
{
    uint64_t size = (uint64_t)j->b->facts.st_size;
    struct look look;
    int r;

    if ((r = verify_stored(j)) < 0)
        return r;
    if (!journal_has_front(j))
        return -ESTALE;
    if ((r = look_at_blocks(j, &look)) < 0)
        return r;
    if (look.is_all_new) /* perhaps by a process that was killed before it could sync */
        return fsync(j->b->fd) < 0 ? -errno : 0;
    if (size >= j->head.old_size && has_old_blocks(j) && (size == j->head.old_size || look.has_frontier))
        return 0; /* not begun; what stands behind the old end is mail, or nothing */
    if (look.is_odd || (size < j->head.new_size && !look.is_all_old))
        return -ESTALE;
    if (size >= j->head.new_size)
        return overwrite(j);
    /* Interrupted while it was being extended. */
    return ftruncate(j->b->fd, (off_t)j->head.old_size) < 0 || fsync(j->b->fd) < 0 ? -errno : 0;
}
