/*
 * X-IMAPbase: what the first message of a file says about all of them. Dovecot and UW-IMAP believe an X-UID only up to
 * the last UID that it names, and a keyword only if it lists it. Internal to shared/mbox.
 */
#ifndef MBOX_BASE_H
#define MBOX_BASE_H

#include "shared/mbox/box.h"

/* Is this the first message, with a block of ours in which X-IMAPbase stands or can stand? */
bool base_is_in(const struct box *b, const struct index_record *rec);

/* The same, and the keywords of the mailbox do not fit into it; or there is neither a block nor an X-IMAPbase. */
bool base_wants_room(const struct box *b, const struct index_record *rec);

/* With BOX_WRITE and an index that is up to date: writes the last UID into the X-IMAPbase that the file has, if it is
 * one with our UIDVALIDITY and room for the number. Not synced. 0 also when there is none. */
int base_put_last(struct box *b, uint32_t uidlast);

/* Keywords that have a number. */
unsigned base_count_keywords(const struct box *b);

/* base_put_last() for the whole block of the first message: keywords are new. */
int base_put_keywords(struct box *b);

/* What a mail program may have given: more was not, and would leave none for us. */
bool base_is_sane(uint32_t validity, uint32_t last);

/* With BOX_READ: what X-IMAPbase (X-IMAP of a pseudo message) says in the file as it is now; both 0: nothing, or
 * nothing that is sane. */
int base_read(struct box *b, uint32_t *ret_validity, uint32_t *ret_last);

#endif
