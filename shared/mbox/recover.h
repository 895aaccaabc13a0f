/*
 * Recovery after a crash, without a session: for the keeper when a lock holder died, and at boot.
 */
#ifndef MBOX_RECOVER_H
#define MBOX_RECOVER_H

#include "shared/mbox/mbox.h"

/* Finishes or undoes what was being written to the store's mailboxes when a process or the machine died: journals are
 * carried out, unfinished appends cut off. Runs as the user. The caller (keeper, boot) sees to it that nobody else
 * writes: only kernel locks are taken, since the dotlock is held already on our behalf. Works without a state folder.
 * INBOX always, other mailboxes where a journal waits. What was done is in mbox_store_notices(). The first error is
 * returned, after everything was tried. */
int mbox_recover(struct mbox_store *s);

#endif
