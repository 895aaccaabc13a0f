/*
 * Is a message that may have been appended before in the mailbox already? Internal to shared/mbox.
 */
#ifndef MBOX_AGAIN_H
#define MBOX_AGAIN_H

#include "shared/mbox/box.h"
#include "shared/mbox/spool.h"

/* With BOX_WRITE, after a torn append was cut off: is the spool's first message, byte for byte, in the last AGAIN_MOST
 * bytes? 0 or a negative errno. */
int again_find(struct box *b, struct spool *s, bool *ret_found);
#define AGAIN_MOST (64u << 20) /* what came since: the second attempt follows the first within the days of a queue */

#endif
