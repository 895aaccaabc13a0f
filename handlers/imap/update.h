/*
 * Unilateral responses: what changed in the selected mailbox since the client was told last (RFC 9051 5.2, 7.4, 7.5).
 */
#ifndef IMAP_UPDATE_H
#define IMAP_UPDATE_H

#include "handlers/imap/imap.h"

/* Polls the selected mailbox, if there is one, and writes EXISTS, RECENT, EXPUNGE or VANISHED, FETCH. With
 * keep_expunged no message number changes. When the mailbox is gone or became another one (UIDVALIDITY), the client
 * is told with BYE and the session is marked as leaving. Nothing of what NOTIFY has turned off is told. */
void update_send(struct imap *s, bool keep_expunged);

/* The same after a command that took messages out; with QRESYNC the new HIGHESTMODSEQ goes into its tagged response. */
void update_send_gone(struct imap *s);

/* FLAGS and PERMANENTFLAGS of the selected mailbox; update_keywords() only if one of these keywords (bits by number)
 * was not told yet. Called before a FETCH response names them. */
void update_flags(struct imap *s);
void update_keywords(struct imap *s, uint64_t used);

/* "* n FETCH (FLAGS ...)" with UID and MODSEQ as the client asked for. */
void update_fetch_flags(struct imap *s, uint32_t seq, bool has_uid, bool has_modseq);

#endif
