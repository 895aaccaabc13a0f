/*
 * What is kept about a mailbox beside its file. Part of `pennypost mbox check`.
 */
#ifndef ADMIN_MBOX_STATE_H
#define ADMIN_MBOX_STATE_H

#include <stdbool.h>
#include <sys/types.h>

#include "shared/base/conf.h"

/* Prints lines about state log, index and journal of the mailbox of user `owner` that is this file. Returns how many
 * problems there are; 0 also when it is nobody's mailbox. */
unsigned mbox_state_print(struct conf *conf, const char *path, uid_t owner);

#endif
