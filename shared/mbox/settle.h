/*
 * May the index be believed? Internal to shared/mbox.
 */
#ifndef MBOX_SETTLE_H
#define MBOX_SETTLE_H

#include "shared/mbox/box.h"

/* Which start of the machine this is; 0: it cannot be told. */
uint64_t store_boot(struct mbox_store *s);

/* Can what the index file says be believed, or may a power cut have mixed its pages? b->ix.head is there. */
bool index_is_believable(const struct box *b);

/* With BOX_STATE: makes the index durable and says so in it, unless it is already. */
int index_settle(struct box *b);

#endif
