/*
 * The LIST response of one mailbox, for other commands than LIST.
 */
#ifndef IMAP_LIST_H
#define IMAP_LIST_H

#include "handlers/imap/folders.h"

/* Writes "* LIST (attributes) "/" name"; without attributes where they cannot be found out. What the client spelled
 * otherwise is told with it as OLDNAME (RFC 9051 6.3.9.7). */
void list_write(struct imap *s, struct str name, struct str spelled);

/* The same with \Subscribed if it is (RFC 5465 5.5). */
void list_write_subscribed(struct imap *s, struct str name);

/* The names of all mailboxes with their flags, those that are offered too. Ends with folders_finish(), whatever this
 * returns: 0, or as folders_load(). */
int list_names(struct imap *s, struct folders *f);

#endif
