/*
 * CONDSTORE and QRESYNC (RFC 7162): mod-sequences, and catching up with a mailbox that the client has cached.
 */
#ifndef IMAP_QRESYNC_H
#define IMAP_QRESYNC_H

#include "handlers/imap/imap.h"

/* What SELECT's QRESYNC parameter says (RFC 7162 3.2.5). */
struct qresync {
    uint32_t uidvalidity;
    uint64_t modseq;
    bool has_known;
    struct numset known; /* UIDs */
    bool has_match;
    struct str match_seqs; /* sequence match data, both sets of the same size */
    struct str match_uids;
};

/* Does the selected mailbox, if there is one, keep mod-sequences (RFC 7162 3.1.2.2)? Not where its state cannot be
 * used. */
bool condstore_is_kept(const struct imap *s);

/* A CONDSTORE enabling command (RFC 7162 3.1): from now on FETCH responses carry MODSEQ and UID. */
void condstore_enable(struct imap *s);

/* mod-sequence-valzer: 0 to 2^63-1. It is refused where no mod-sequences are kept. */
int condstore_parse_modseq(struct imap *s, uint64_t *ret);

/* Parses "(" uidvalidity SP modseq [SP known-uids] [SP seq-match-data] ")". known is freed by the caller. */
int qresync_parse(struct imap *s, struct qresync *ret);

/* After SELECT: VANISHED (EARLIER) and the FETCH responses of what changed, if the UIDVALIDITY is still the same. */
int qresync_respond(struct imap *s, const struct qresync *q);

/* "* VANISHED (EARLIER) ..." of the UIDs in `known` that are gone since the mod-sequence and are above `above`. */
int qresync_vanished(struct imap *s, uint64_t modseq, const struct numset *known, uint32_t above);

#endif
