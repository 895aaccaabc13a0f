/*
 * Taking an append of ours that came to nothing out of the file when a program that does not know our locks has
 * appended behind it. Internal to shared/mbox: append.c and tail.c.
 */
#ifndef MBOX_EXCISE_H
#define MBOX_EXCISE_H

#include "shared/mbox/box.h"

#define EXCISE_BLOCK 4096u /* appends are written in pieces that end with one of these, but for the last */

struct excise_range {
    uint64_t from;
    uint64_t to; /* not above from: nothing */
};

/* With BOX_WRITE: where mail of another program begins behind an append of ours that begins at `from` and was not
 * finished; b->facts.st_size: there is none. 0, or an error of reading. */
int excise_foreign(struct box *b, uint64_t from, uint64_t *ret);

/* With BOX_WRITE: takes these bytes out, in the order of the file, durably, and moves up what stands behind them, under
 * a journal. Without BOX_STATE, or room for one, what is left of the append becomes void in its place: -ENOBUFS, and
 * whoever opens the mailbox with a state takes it out. After other errors a journal may be there. */
int excise(struct box *b, const struct excise_range *ranges, size_t count);

#endif
