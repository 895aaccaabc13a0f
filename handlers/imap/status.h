/*
 * STATUS items (RFC 9051 6.3.11), for STATUS and for LIST with RETURN (STATUS ...) (RFC 5819).
 */
#ifndef IMAP_STATUS_H
#define IMAP_STATUS_H

#include "handlers/imap/imap.h"

/* Parses "(item item ...)" into a set of bits. */
int status_parse(struct imap *s, unsigned *ret_items);

/* Writes "* STATUS name (...)" from what mbox_status() said. */
void status_write(struct imap *s, struct str name, const struct mbox_status *status, unsigned items);

#endif
