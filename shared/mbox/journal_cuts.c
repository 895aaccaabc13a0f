/*
 * What goes out of the middle of an mbox file, and by which way: whole blocks given back (journal_collapse.c) or
 * everything behind moved up (journal.c). Runs as the user under BOX_WRITE and BOX_STATE.
 */
#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/journal_collapse.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

void journal_cuts_init(struct journal_cuts *cuts)
{
    *cuts = (struct journal_cuts){.literals = BUF_INIT(LIMIT_JOURNAL_LITERALS)};
}

void journal_cuts_finish(struct journal_cuts *cuts)
{
    free(cuts->holes);
    buf_finish(&cuts->literals);
    *cuts = (struct journal_cuts){0};
}

int journal_cuts_add(struct journal_cuts *cuts, uint64_t from, uint64_t end, uint64_t at, struct str literal)
{
    uint64_t place = cuts->literals.len;
    int r;

    if (end < from || literal.len > end - from)
        return -EINVAL;
    if (cuts->count == cuts->cap) {
        size_t cap = cuts->cap == 0 ? 16 : cuts->cap * 2;
        struct journal_hole *more = realloc(cuts->holes, cap * sizeof(*more));

        if (more == NULL)
            return -ENOMEM;
        cuts->holes = more;
        cuts->cap = cap;
    }
    if (literal.len > 0 && (r = buf_add_str(&cuts->literals, literal)) < 0)
        return r;
    cuts->holes[cuts->count++] =
        (struct journal_hole){.from = from, .end = end, .at = at, .cut = end - from - literal.len, .literal = place};
    return 0;
}

/* ext2 and ext3 have the number of ext4, and refuse later: then the move does it. */
uint64_t journal_block_size(const struct box *b, uint64_t from)
{
    struct statfs fs;
    struct stat st;

    if (fstatfs(b->fd, &fs) < 0 || fstat(b->fd, &st) < 0 || fs.f_bsize < 512 || fs.f_bsize > 65536)
        return 0;
    if (fs.f_type != EXT4_SUPER_MAGIC && fs.f_type != XFS_SUPER_MAGIC)
        return 0;
    /* A hole that was there before could not be told from one that an interrupted collapse left. */
    if (lseek(b->fd, (off_t)from, SEEK_HOLE) != st.st_size)
        return 0;
    return (uint64_t)fs.f_bsize;
}

uint64_t journal_holes_cut(const struct journal_hole *holes, size_t first, size_t end)
{
    uint64_t sum = 0;

    for (size_t i = first; i < end; i++)
        sum += holes[i].cut;
    return sum;
}

size_t journal_hole_literal(const struct journal_hole *hole)
{
    return (size_t)(hole->end - hole->from - hole->cut);
}

int journal_holes_plan(const struct journal_hole *holes, size_t count, size_t done, const struct buf *literals,
                       uint64_t size, struct journal_plan *plan)
{
    uint64_t from = count > 0 ? holes[0].from : size, cut = 0;
    int r = 0;

    journal_plan_init(plan, from, size);
    for (size_t i = 0; r == 0 && i < count; i++) {
        size_t len = journal_hole_literal(&holes[i]);

        r = journal_plan_copy(plan, from, holes[i].from - cut - from);
        if (r == 0 && len > 0)
            r = journal_plan_literal(plan, literals->data + holes[i].literal, len);
        if (i >= done)
            cut += holes[i].cut;
        from = holes[i].end - cut;
    }
    return r < 0 ? r : journal_plan_copy(plan, from, size - from);
}

int journal_cut(struct box *b, const struct journal_cuts *cuts, bool collapse)
{
    struct journal_plan plan;
    int r;

    if (collapse)
        return journal_collapse(b, cuts);
    r = journal_holes_plan(cuts->holes, cuts->count, cuts->count, &cuts->literals, (uint64_t)b->facts.st_size, &plan);
    if (r == 0)
        r = journal_run(b, &plan);
    journal_plan_finish(&plan);
    return r;
}
