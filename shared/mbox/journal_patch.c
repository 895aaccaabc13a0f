/*
 * Equal-length writes all over an mbox file: flag blocks and headers whose lines change places. Runs as the user under
 * BOX_WRITE and BOX_STATE; touches NAME.journal and the mbox file.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/hash.h"
#include "shared/mbox/journal_file.h"

#define AROUND 24u /* bytes on each side of a patch: never as far as the next one */

int journal_patch_all(struct journal *j)
{
    int r;

    for (size_t i = 0; i < j->plan.count; i++) {
        const struct journal_piece *p = &j->plan.pieces[i];

        r = file_write(j->b->fd, j->plan.literals.data + (p->from - JOURNAL_LITERAL), p->len, p->to);
        if (r < 0)
            return r;
    }
    /* With the times: at the same size an index of before must not seem to describe the file. */
    return fsync(j->b->fd) < 0 ? -errno : 0;
}

/* Checksum of what stands around a patch. */
static int surroundings(struct journal *j, const struct journal_piece *p, uint64_t *ret)
{
    uint8_t bytes[2 * AROUND];
    uint64_t end = p->to + p->len;
    size_t before = p->to < AROUND ? (size_t)p->to : AROUND;
    size_t behind = j->plan.old_size - end < AROUND ? (size_t)(j->plan.old_size - end) : AROUND;
    int r;

    if ((r = file_read(j->b->fd, bytes, before, p->to - before)) < 0 ||
        (r = file_read(j->b->fd, bytes + before, behind, end)) < 0)
        return r;
    *ret = mhash64(bytes, before + behind);
    return 0;
}

/* What stands there now, behind what is to stand there. */
static int add_old(struct box *b, struct journal_plan *patches)
{
    struct buf *literals = &patches->literals;
    int r = 0;

    for (size_t i = 0; r == 0 && i < patches->count; i++) {
        const struct journal_piece *p = &patches->pieces[i];

        if ((r = buf_reserve(literals, p->len)) == 0)
            r = file_read(b->fd, literals->data + literals->len, p->len, p->to);
        literals->len += r == 0 ? p->len : 0;
    }
    return r;
}

/* What stands around each place is remembered: a From_ line in front of a header, the beginning of the body behind it.
 */
int journal_patch(struct box *b, struct journal_plan *patches)
{
    struct journal j = {.b = b, .plan = *patches};
    int r;

    for (size_t i = 0; i < patches->count; i++)
        if ((r = surroundings(&j, &patches->pieces[i], &patches->pieces[i].check)) < 0)
            return r;
    if (patches->count == 0)
        return 0;
    r = add_old(b, patches);
    return r < 0 ? r : journal_carry_out(b, patches, JOURNAL_PATCH);
}

/* ---- after a crash ---- */

/* Has another program written there since? Ours leaves each byte as it was or as it is to be. */
static int is_patch_odd(struct journal *j, const struct journal_piece *p, uint64_t old, bool *ret)
{
    const char *next = j->plan.literals.data + (p->from - JOURNAL_LITERAL), *before = j->plan.literals.data + old;
    _cleanup_free_ char *now = malloc(p->len + 1);
    int r = now == NULL ? -ENOMEM : file_read(j->b->fd, now, p->len, p->to);

    for (uint64_t i = 0; r == 0 && i < p->len; i++)
        *ret |= now[i] != next[i] && now[i] != before[i];
    return r;
}

/* Takes the patches of such places out of the plan: its flags are later than ours. */
static int drop_odd_patches(struct journal *j)
{
    size_t kept = 0;
    uint64_t old = 0;

    for (size_t i = 0; i < j->plan.count; i++)
        old += j->plan.pieces[i].len;
    if (j->plan.literals.len != 2 * old) /* of an earlier version, which did not keep what it overwrote */
        return 0;
    for (size_t i = 0; i < j->plan.count; i++) {
        const struct journal_piece *p = &j->plan.pieces[i];
        bool is_odd = false;
        int r = is_patch_odd(j, p, old, &is_odd);

        if (r < 0)
            return r;
        old += p->len;
        if (!is_odd)
            j->plan.pieces[kept++] = *p;
    }
    j->plan.count = kept;
    return 0;
}

/* Equal lengths: the surroundings of every place must be as they were. */
int journal_finish_patch(struct journal *j)
{
    uint64_t sum;
    int r;

    if ((uint64_t)j->b->facts.st_size < j->head.old_size)
        return -ESTALE;
    for (size_t i = 0; i < j->plan.count; i++)
        if (surroundings(j, &j->plan.pieces[i], &sum) < 0 || sum != j->plan.pieces[i].check)
            return -ESTALE;
    r = drop_odd_patches(j);
    return r < 0 ? r : journal_patch_all(j);
}
