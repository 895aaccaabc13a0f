/*
 * Stored headers made anew: a flag block in front, stray interop fields gone. Internal to shared/mbox.
 */
#ifndef MBOX_REWRITE_H
#define MBOX_REWRITE_H

#include "shared/mbox/box.h"
#include "shared/mbox/journal.h"

#define REWRITE_HEADER_MAX (1u << 20)  /* a larger header stays as it is */
#define REWRITE_GROW_MAX   (64u << 20) /* bytes behind a header that may move to make room for a block */

/* Appends to *out the header of a message (what stands between From_ line and empty line) as it should be. If it can
 * have the length that it has, it gets it; else it grows, if it may. *ret_length: the length that it had. -EFBIG:
 * larger than REWRITE_HEADER_MAX. -ESTALE: not what the index says. -ENOBUFS: it would have to grow. */
int rewrite_header(struct box *b, const struct index_record *rec, bool may_grow, struct buf *out, size_t *ret_length);

struct rewrite_head {
    size_t span;  /* bytes from its From_ line on that are made anew */
    size_t block; /* length of the new block */
    int64_t room; /* by which it is longer than before */
};

/* Appends to *out a message's From_ line and what is to stand behind it: its block, or all of its header when it has
 * none or interop fields elsewhere. `room`: exactly so many bytes longer than before, or REWRITE_LEAST: as short as is
 * sensible. Errors as above; -ENOBUFS: not with this length. */
int rewrite_head(struct box *b, const struct index_record *rec, bool has_base, int64_t room, struct buf *out,
                 struct rewrite_head *ret);
#define REWRITE_LEAST INT64_MIN

/* With BOX_WRITE and BOX_STATE: makes room for the blocks of the messages that want one, from the first of them on, and
 * gives one to all behind it. The index is stale afterwards. ret_uids gets those that have all in the file now,
 * ret_size how long that is. */
int rewrite_grow(struct box *b, uint64_t first, struct numset *ret_uids, uint64_t *ret_size);

#endif
