/*
 * The redo journal: what is about to be done to an mbox file in place, so that it can be finished after a crash.
 * Internal to shared/mbox. See journal.c for the format and the order of things.
 */
#ifndef MBOX_JOURNAL_H
#define MBOX_JOURNAL_H

#include "shared/mbox/box.h"

#define JOURNAL_NONCE 32u

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

/* A plan for what stands from `start` on in a file that is `old_size` long; pieces are added in their new order. */
void journal_plan_init(struct journal_plan *plan, uint64_t start, uint64_t old_size);
void journal_plan_finish(struct journal_plan *plan);
int journal_plan_copy(struct journal_plan *plan, uint64_t from, uint64_t len);
int journal_plan_literal(struct journal_plan *plan, const void *data, size_t len);

/* Where the new file ends. */
uint64_t journal_plan_end(const struct journal_plan *plan);

/* With BOX_WRITE and BOX_STATE: writes the journal durably, carries the plan out durably, removes the journal.
 * -ENOSPC and the like before anything in the mbox was touched; later errors leave the journal for replay. */
int journal_run(struct box *b, const struct journal_plan *plan);

/* Equal-length writes that must all happen or none: {to, JOURNAL_LITERAL + offset, len} anywhere in the file. What they
 * overwrite goes into the literals too: replay leaves alone what another program has changed since. */
int journal_patch(struct box *b, struct journal_plan *patches);
#define JOURNAL_PATCH_MAX (LIMIT_JOURNAL_LITERALS / 2) /* bytes of all of them */

/* Makes the end of the file longer: pieces as in journal_run(), but contents move away from the beginning. At most
 * JOURNAL_GROW_MAX bytes from plan->start on (-EFBIG). */
int journal_grow(struct box *b, const struct journal_plan *plan);
#define JOURNAL_GROW_MAX (64u << 20)

/* Bytes that go out of the middle of the file. [from, end) becomes `literal`, which is shorter by `cut`. */
struct journal_hole {
    uint64_t from;
    uint64_t end;
    uint64_t at; /* of a collapse: where the blocks that go begin */
    uint64_t cut;
    uint64_t literal; /* place in the literals: end - from - cut bytes */
    uint64_t before;  /* checksums of what stands in front of it and behind it, see journal_collapse.c */
    uint64_t behind;
    uint8_t old[JOURNAL_NONCE]; /* what stands where the nonce goes */
};

struct journal_cuts {
    struct journal_hole *holes; /* in the order of the file */
    size_t count;
    size_t cap;
    struct buf literals;
};

/* Fresh cuts; each is added behind the one before. */
void journal_cuts_init(struct journal_cuts *cuts);
void journal_cuts_finish(struct journal_cuts *cuts);
int journal_cuts_add(struct journal_cuts *cuts, uint64_t from, uint64_t end, uint64_t at, struct str literal);

/* The block size with which this file can give blocks back out of its middle, 0: it cannot (FALLOC_FL_COLLAPSE_RANGE
 * on ext4 and XFS, files without holes from `from` on). */
uint64_t journal_block_size(const struct box *b, uint64_t from);

/* With BOX_WRITE and BOX_STATE: takes the holes out, durably. `collapse`: each cut is a number of whole blocks from
 * `at` on; if the file system refuses, the rest is done by moving. Errors as for
 * journal_run(). */
int journal_cut(struct box *b, const struct journal_cuts *cuts, bool collapse);

/* Is there a journal of this mailbox, finished or not? */
bool journal_exists(const struct box *b);

/* With BOX_WRITE and BOX_STATE: finishes what a journal says. One that does not fit the file any more, because a
 * foreign program rewrote it, is put aside as NAME.journal.odd and noticed; one of a file that is not there waits. */
int journal_replay(struct box *b);

#endif
