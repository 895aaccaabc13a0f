/*
 * The LIST response of one mailbox, for other commands than LIST.
 */
#ifndef IMAP_LIST_H
#define IMAP_LIST_H

#include "handlers/imap/imap.h"

/* Writes "* LIST (attributes) "/" name"; without attributes where they cannot be found out. */
void list_write(struct imap *s, struct str name);

#endif
