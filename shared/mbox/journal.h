/*
 * The redo journal: what is about to be done to an mbox file in place, so that it can be finished after a crash.
 * Internal to shared/mbox. See journal.c for the format and the order of things.
 */
#ifndef MBOX_JOURNAL_H
#define MBOX_JOURNAL_H

#include "shared/mbox/box.h"

/* A piece of the new content, in the order of the file. */
struct journal_piece {
    uint64_t to;   /* place in the new file */
    uint64_t from; /* place in the old file, or JOURNAL_LITERAL + offset in the literals */
    uint64_t len;
    uint64_t check; /* of a patch: its surroundings, see journal_patch() */
};
#define JOURNAL_LITERAL        (1ull << 63)
#define LIMIT_JOURNAL_LITERALS (128u << 20)

/* A plan: pieces that make up the file from pieces[0].to on; it ends at the end of the last one, where the file is cut.
 * Contents only move towards the beginning. */
struct journal_plan {
    struct journal_piece *pieces;
    size_t count;
    size_t cap;
    uint64_t start; /* first byte that changes */
    uint64_t old_size;
    struct buf literals;
};

void journal_plan_init(struct journal_plan *plan, uint64_t start, uint64_t old_size);
void journal_plan_finish(struct journal_plan *plan);
int journal_plan_copy(struct journal_plan *plan, uint64_t from, uint64_t len);
int journal_plan_literal(struct journal_plan *plan, const void *data, size_t len);

/* Where the new file ends. */
uint64_t journal_plan_end(const struct journal_plan *plan);

/* With BOX_WRITE and BOX_STATE: writes the journal durably, carries the plan out durably, removes the journal.
 * -ENOSPC and the like before anything in the mbox was touched; later errors leave the journal for replay. */
int journal_run(struct box *b, const struct journal_plan *plan);

/* Equal-length writes that must all happen or none: {to, JOURNAL_LITERAL + offset, len} anywhere in the file. */
int journal_patch(struct box *b, const struct journal_plan *patches);

/* Makes the end of the file longer: pieces as in journal_run(), but contents move away from the beginning. At most
 * JOURNAL_GROW_MAX bytes from plan->start on (-EFBIG). */
int journal_grow(struct box *b, const struct journal_plan *plan);
#define JOURNAL_GROW_MAX (64u << 20)

bool journal_exists(const struct box *b);

/* With BOX_WRITE and BOX_STATE: finishes what a journal says. One that does not fit the file any more, because a
 * foreign program rewrote it, is put aside as NAME.journal.odd and noticed. */
int journal_replay(struct box *b);

#endif
