/*
 * The end of an mbox file: how it must be continued, and whether the last append of ours was cut off by a crash.
 * Internal to shared/mbox.
 */
#ifndef MBOX_TAIL_H
#define MBOX_TAIL_H

#include "shared/mbox/box.h"

/* With BOX_WRITE: the line ends of the file, and what has to be written first so that a From_ line can follow.
 * -EBADMSG: it does not begin like an mbox. */
int tail_look(struct box *b, bool *ret_crlf, struct str *ret_repair);

/* With BOX_WRITE: cuts off an append of ours that was never finished. */
int tail_recover(struct box *b);

#endif
