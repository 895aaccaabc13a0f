/*
 * The limit of an INBOX (mailbox_size), as deliveries keep it too. The file system's quotas come from the store.
 */
#ifndef IMAP_QUOTA_H
#define IMAP_QUOTA_H

#include "handlers/imap/imap.h"

/* Would `more` bytes in this mailbox go over the limit? 0, or -EDQUOT. */
int quota_check(struct imap *s, struct str mailbox, uint64_t more);

#endif
