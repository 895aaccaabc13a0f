/*
 * What limits a user's mailboxes (RFC 9208): `mailbox_size` of the configuration for the INBOX, as deliveries keep it
 * too, and the quotas that the file systems of the spool and of the folders keep.
 */
#ifndef IMAP_QUOTA_H
#define IMAP_QUOTA_H

#include "handlers/imap/imap.h"

/* Quota roots. */
enum quota_root {
    QUOTA_INBOX, /* mailbox_size */
    QUOTA_SPOOL, /* the file system of the spool, where it is another one than that of the folders */
    QUOTA_HOME,  /* the file system of the folders */
    QUOTA_ROOTS,
};

/* In bytes. */
struct quota {
    uint64_t used;
    uint64_t limit;
};

/* The name of a root, and the root of a name: -ENOENT, there is none of that name. */
const char *quota_name(enum quota_root root);
int quota_find(struct str name, enum quota_root *ret);

/* What a root has and may have. -ENOENT: nothing limits it. */
int quota_look(struct imap *s, enum quota_root root, struct quota *ret);

/* Would this mailbox belong to the root, if nothing but names and file systems is asked? */
bool quota_holds(struct imap *s, enum quota_root root, struct str mailbox);

/* Is there any limit to tell of? */
bool quota_is_any(struct imap *s);

/* Would `more` bytes in this mailbox go over mailbox_size? 0, or -EDQUOT. The file systems' quotas come from the store:
 * nobody knows before how many blocks a message takes. */
int quota_check(struct imap *s, struct str mailbox, uint64_t more);

#endif
