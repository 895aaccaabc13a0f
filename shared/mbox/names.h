/*
 * Names of mailboxes and of their files. Internal to shared/mbox.
 */
#ifndef MBOX_NAMES_H
#define MBOX_NAMES_H

#include <stdbool.h>

#include "shared/mbox/mbox.h"

/* INBOX in any spelling (RFC 9051 5.1). */
bool name_is_inbox(struct str name);

/* Does this file name end like one that is never a mailbox? */
bool name_is_reserved(struct str level);

/* Appends the canonical form: INBOX in upper case as the first level. 0, -ENOBUFS, -ENOMEM. */
int name_canonical(struct str name, struct buf *out);

/* Appends the path of a checked, canonical name. -ENOENT: the store has no folders. */
int name_path(struct mbox_store *s, struct str name, struct buf *out);

/* Appends the path of its sidecars without suffix. */
int name_side(struct mbox_store *s, struct str name, struct buf *out);

#endif
