/*
 * Sets of messages: a sequence-set, a uid-set or `$` (RFC 5182) resolved against the selected mailbox.
 */
#ifndef IMAP_SEQSET_H
#define IMAP_SEQSET_H

#include "handlers/imap/imap.h"

/* Parses a sequence-set and appends the message sequence numbers it means to *ret. With s->is_uid its numbers are UIDs,
 * and those that are not there are left out (RFC 9051 6.4.9); otherwise a number above the mailbox is -EINVAL. */
int seqset_parse(struct imap *s, struct numset *ret);

/* The UIDs that the text of a set names, whether they are there or not; `*` is the last one ever given. */
int seqset_named_uids(struct imap *s, struct str text, struct numset *ret);

/* Resolves the text of a sequence-set, as parse_sequence() gives it. -EINVAL: a number that is not there. */
int seqset_resolve(struct imap *s, struct str text, bool is_uid, struct numset *ret);

/* What a number that is not there gets: a client that counts wrong is told so (RFC 5530 3, CLIENTBUG). Always -EINVAL.
 */
int seqset_refuse(struct imap *s);

/* The UIDs of messages. 0, -ENOBUFS, -ENOMEM. */
int seqset_uids(struct imap *s, const struct numset *seqs, struct numset *ret);

/* The messages with these UIDs that are in the view. */
int seqset_from_uids(struct imap *s, const struct numset *uids, struct numset *ret);

/* Reads a plain uid-set without `*` into numbers (QRESYNC's known-uids). */
int seqset_parse_known(struct imap *s, const char *expected, struct numset *ret);

#endif
