/*
 * Finishing what a journal says after a crash. Runs as the user under BOX_WRITE and BOX_STATE: at the next open, by
 * `deliver --recover` for the keeper, and at boot. Verifies first; what does not fit is put aside, never carried out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/hash.h"
#include "shared/mbox/journal_file.h"

#define PIECES_MAX (64u << 20)

bool journal_exists(const struct box *b)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);

    return b->side != NULL && box_side(b, ".journal", &path) == 0 && access(buf_cstr(&path), F_OK) == 0;
}

static int load_plan(struct journal *j)
{
    struct journal_head *h = &j->head;
    uint64_t pieces = h->count * sizeof(struct journal_piece);
    uint64_t end;
    int r;

    journal_plan_init(&j->plan, h->start, h->old_size);
    if (h->count > PIECES_MAX)
        return -EBADMSG;
    j->plan.pieces = malloc(pieces > 0 ? pieces : 1);
    if (j->plan.pieces == NULL)
        return -ENOMEM;
    j->plan.count = j->plan.cap = h->count;
    if ((r = file_read(j->fd, j->plan.pieces, pieces, sizeof(*h))) < 0 ||
        (r = buf_reserve(&j->plan.literals, h->literals)) < 0 ||
        (r = file_read(j->fd, j->plan.literals.data, h->literals, sizeof(*h) + pieces)) < 0)
        return r;
    j->plan.literals.len = h->literals;
    if (h->body != (mhash64(j->plan.pieces, pieces) ^ mhash64(j->plan.literals.data, h->literals)))
        return -EBADMSG;
    end = journal_plan_end(&j->plan);
    return h->kind == JOURNAL_MOVE && end != h->new_size ? -EBADMSG : 0;
}

/* -EBADMSG, -ENODATA: the journal was never finished, so nothing was begun. */
static int load(struct journal *j)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    int r;

    if ((r = buf_printf(&path, "%s.journal", j->b->side)) < 0)
        return r;
    j->fd = open(buf_cstr(&path), O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (j->fd < 0)
        return -errno;
    if ((r = file_read(j->fd, &j->head, sizeof(j->head), 0)) < 0)
        return r;
    if (j->head.magic != JOURNAL_MAGIC || j->head.check != journal_head_check(&j->head) ||
        j->head.gap_len > JOURNAL_EDGE || j->head.tail_len > JOURNAL_EDGE)
        return -EBADMSG;
    if (j->head.kind == JOURNAL_MOVE && j->head.block == 0) /* of an earlier version */
        j->head.block = JOURNAL_WINDOW;
    if (j->head.kind == JOURNAL_GROW || j->head.kind == JOURNAL_COLLAPSE)
        return 0; /* they check their bodies themselves */
    return load_plan(j);
}

/* The latest slot that is whole, with its window. False: there is none. */
static bool load_slot(struct journal *j, struct journal_slot *ret)
{
    struct journal_slot slot;
    bool is_found = false;
    uint64_t sum;

    for (uint64_t i = 0; i < 2; i++) {
        if (file_read(j->fd, &slot, sizeof(slot), j->head.slots + i * JOURNAL_ALIGN) < 0)
            continue;
        if (slot.check != journal_slot_check(&slot) || slot.sequence == 0)
            continue;
        if (is_found && slot.sequence < ret->sequence)
            continue;
        /* Slot and window become durable together: after a power cut one may be there without the other. */
        if (!slot.is_direct && (journal_window_sum(j, &slot, &sum) < 0 || sum != slot.content))
            continue;
        *ret = slot;
        is_found = true;
    }
    return is_found;
}

static bool has_edge(struct journal *j, uint64_t offset, uint64_t end, uint64_t expected)
{
    uint64_t sum;

    return journal_edge(j, offset, end, &sum) == 0 && sum == expected;
}

/* Are these the old bytes? The nonce may be over the first of them, wholly or in part; and where the file was being
 * cut, zeros may stand up to the end of a block: the file system clears it before it makes the new size durable. */
static bool has_old(struct journal *j, uint64_t offset, const uint8_t *old, size_t len, size_t nonce)
{
    uint8_t bytes[JOURNAL_EDGE];

    if (file_read(j->b->fd, bytes, len, offset) < 0)
        return false;
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != old[i] && bytes[i] != 0 && (i >= nonce || bytes[i] != j->head.nonce[i]))
            return false;
    return true;
}

bool journal_has_front(struct journal *j)
{
    uint64_t from = j->head.start > JOURNAL_EDGE ? j->head.start - JOURNAL_EDGE : 0;

    return has_edge(j, from, j->head.start, j->head.before);
}

/* Has cutting begun: is something else than the old bytes where the nonce goes? */
static bool is_cutting(struct journal *j)
{
    uint8_t bytes[JOURNAL_NONCE];
    size_t len = j->head.gap_len < sizeof(bytes) ? j->head.gap_len : sizeof(bytes);

    return file_read(j->b->fd, bytes, len, j->head.new_size) == 0 && memcmp(bytes, j->head.gap, len) != 0;
}

enum state { STATE_ODD, STATE_UNCUT, STATE_CUT };

/* What the file looks like. */
static enum state inspect(struct journal *j, const struct journal_slot *slot)
{
    const struct journal_head *h = &j->head;
    uint64_t size = (uint64_t)j->b->facts.st_size;
    bool is_last = slot != NULL && slot->at + slot->len == h->new_size;

    if (!journal_has_front(j))
        return STATE_ODD;
    if (size >= h->old_size && has_old(j, h->new_size, h->gap, h->gap_len, JOURNAL_NONCE) &&
        has_old(j, journal_tail(h), h->tail, h->tail_len, 0)) {
        if (slot == NULL)
            return STATE_UNCUT;
        return has_edge(j, journal_source(&j->plan, slot->at + slot->len), h->old_size, slot->next) || is_last
                   ? STATE_UNCUT
                   : STATE_ODD;
    }
    return size >= h->new_size && (is_last || h->new_size == h->start) ? STATE_CUT : STATE_ODD;
}

static int finish_move(struct journal *j)
{
    struct journal_slot slot;
    bool has_slot = load_slot(j, &slot);
    uint64_t size = (uint64_t)j->b->facts.st_size;
    uint64_t at = j->head.start;
    int r;

    switch (inspect(j, has_slot ? &slot : NULL)) {
    case STATE_CUT: /* perhaps by a process that was killed before it could sync */
        return fsync(j->b->fd) < 0 ? -errno : 0;
    case STATE_ODD:
        return -ESTALE;
    case STATE_UNCUT:
        break;
    }
    if (has_slot && journal_is_cut_into(j, &slot) && is_cutting(j)) {
        at = j->head.new_size; /* the nonce came after everything, and may lie where the window came from */
    } else if (has_slot) {
        if ((r = journal_window(j, &slot)) < 0)
            return r;
        if (fdatasync(j->b->fd) < 0)
            return -errno;
        j->sequence = slot.sequence;
        at = slot.at + slot.len;
    }
    if (size == j->head.old_size)
        return journal_move(j, at);
    if ((r = journal_fill(j, at)) < 0)
        return r;
    /* The journal that holds the last window goes when another one takes its place. */
    return fdatasync(j->b->fd) < 0 ? -errno : journal_move_arrived(j, size);
}

static int put_aside(struct box *b)
{
    _cleanup_buf_ struct buf from = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_buf_ struct buf to = BUF_INIT(LIMIT_CONF_VALUE * 8);
    int r;

    if ((r = buf_printf(&from, "%s.journal", b->side)) < 0 || (r = buf_printf(&to, "%s.journal.odd", b->side)) < 0)
        return r;
    if (rename(buf_cstr(&from), buf_cstr(&to)) < 0)
        return -errno;
    (void)store_notice(b->store,
                       "%s: an unfinished change does not fit the file, which was rewritten by another program;"
                       " nothing was touched, the journal is kept as %s",
                       b->name, buf_cstr(&to));
    return 0;
}

static int finish(struct journal *j)
{
    switch ((enum journal_kind)j->head.kind) {
    case JOURNAL_MOVE:
        return finish_move(j);
    case JOURNAL_PATCH:
        return journal_finish_patch(j);
    case JOURNAL_GROW:
        return journal_finish_grow(j);
    case JOURNAL_COLLAPSE:
        return journal_finish_collapse(j);
    }
    return -ESTALE; /* of a later version: kept */
}

int journal_replay(struct box *b)
{
    struct journal j = {.b = b, .fd = -1, .copy = malloc(JOURNAL_COPY)};
    int r;

    r = j.copy == NULL ? -ENOMEM : load(&j);
    if (r == -EBADMSG || r == -ENODATA) {
        r = journal_remove(b);
    } else if (r == 0) {
        /* Not the number of the device: it may be another one after a boot, and contents are looked at anyway. */
        if (b->fd < 0)
            r = -ENOENT; /* it may come back: a spool that is not mounted yet */
        else
            r = j.head.ino != b->facts.st_ino ? -ESTALE : finish(&j);
        if (r == -EBADMSG) { /* never finished: nothing was begun */
            r = journal_remove(b);
        } else if (r == 0) {
            (void)store_notice(b->store, "%s: an interrupted change was finished", b->name);
            r = journal_end(&j);
        } else if (r == -ESTALE) {
            r = put_aside(b);
        }
    }
    if (r == 0 && b->fd >= 0 && fstat(b->fd, &b->facts) < 0)
        r = -errno;
    close_fd(&j.fd);
    journal_plan_finish(&j.plan);
    free(j.holes);
    free(j.copy);
    return r == -ENOENT ? 0 : r;
}
