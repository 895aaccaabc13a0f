/*
 * STATUS items (RFC 9051 6.3.11), for STATUS and for LIST with RETURN (STATUS ...) (RFC 5819).
 */
#ifndef IMAP_STATUS_H
#define IMAP_STATUS_H

#include "handlers/imap/imap.h"

enum status_item {
    STATUS_MESSAGES = 1u << 0,
    STATUS_RECENT = 1u << 1,
    STATUS_UIDNEXT = 1u << 2,
    STATUS_UIDVALIDITY = 1u << 3,
    STATUS_UNSEEN = 1u << 4,
    STATUS_DELETED = 1u << 5,         /* RFC 9051 6.3.11 */
    STATUS_SIZE = 1u << 6,            /* RFC 8438 */
    STATUS_HIGHESTMODSEQ = 1u << 7,   /* RFC 7162 3.1.7 */
    STATUS_APPENDLIMIT = 1u << 8,     /* RFC 7889 */
    STATUS_DELETED_STORAGE = 1u << 9, /* RFC 9208 4.1.4 */
    STATUS_MAILBOXID = 1u << 10,      /* RFC 8474 */
};

/* Parses "(item item ...)" into a set of bits. */
int status_parse(struct imap *s, unsigned *ret_items);

/* Writes "* STATUS name (...)" from what mbox_status() said. */
void status_write(struct imap *s, struct str name, const struct mbox_status *status, unsigned items);

#endif
