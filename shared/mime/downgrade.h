/*
 * Internationalized messages for clients that do not know of them (RFC 6858): a header in ASCII that shows what can be
 * shown. Used by POP3 without UTF8 (RFC 6856 2.1) and by IMAP without UTF8=ACCEPT.
 */
#ifndef MIME_DOWNGRADE_H
#define MIME_DOWNGRADE_H

#include <stdbool.h>

#include "shared/base/buf.h"

/* Is it the header of a message that came through SMTPUTF8 (a Received field says so, RFC 6531 4.3) and has UTF-8 in
 * it? Other 8-bit headers are mail that was always sent like that; it is served as it is. */
bool downgrade_is_needed(struct str header);

/* Appends the header, with its empty line, as RFC 6858 2 has it: addresses in UTF-8 become invalid ones that show them,
 * Subject and display names become encoded words, parameters in UTF-8 and other fields are left out. Fields in ASCII
 * stay as they are, byte for byte. 0, -ENOBUFS, -ENOMEM. */
int downgrade_header(struct str header, struct buf *out);

#endif
