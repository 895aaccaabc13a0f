/*
 * IMAP's modified UTF-7 for mailbox names (RFC 3501 5.1.3), strict both ways: one text, one encoding.
 */
#ifndef MIME_UTF7_H
#define MIME_UTF7_H

#include "shared/base/buf.h"

/* Appends the modified UTF-7 form of a UTF-8 text. -EINVAL: not valid UTF-8. */
int utf7_encode(struct str utf8, struct buf *out);

/* Appends the UTF-8 form. -EINVAL: not valid modified UTF-7 (8-bit, ASCII inside base64, unpaired surrogates,
 * superfluous shifts, padding bits that are not zero). */
int utf7_decode(struct str utf7, struct buf *out);

#endif
