/*
 * Taking whole blocks out of the middle of an mbox file. Internal to journal_cuts.c and journal_collapse.c.
 */
#ifndef MBOX_JOURNAL_COLLAPSE_H
#define MBOX_JOURNAL_COLLAPSE_H

#include "shared/mbox/journal_file.h"

/* Takes the cuts out of the file under a journal. 0, or a negative errno; what was begun is then for the replay. */
int journal_collapse(struct box *b, const struct journal_cuts *cuts);

/* How many bytes the holes [first, end) take out. */
uint64_t journal_holes_cut(const struct journal_hole *holes, size_t first, size_t end);

/* How long the literal of a hole is. */
size_t journal_hole_literal(const struct journal_hole *hole);

/* The plan that takes the holes out by moving; of those from `done` on the blocks are out already, only their literals
 * have to be written. Finished by the caller in any case. */
int journal_holes_plan(const struct journal_hole *holes, size_t count, size_t done, const struct buf *literals,
                       uint64_t size, struct journal_plan *plan);

#endif
