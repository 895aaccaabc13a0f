/*
 * Encoded words in header fields (RFC 2047, with the language tag of RFC 2231 5).
 */
#ifndef MIME_RFC2047_H
#define MIME_RFC2047_H

#include <stdbool.h>

#include "shared/base/buf.h"

/* Appends a field body (folded or not) as one line of UTF-8: encoded words decoded, blanks between adjacent ones
 * dropped, a character split over two words of one charset joined; raw 8-bit text is taken as UTF-8 if it is valid,
 * else as windows-1252. What is not a correct encoded word stays as it is. 0, -ENOBUFS, -ENOMEM. */
int rfc2047_decode(struct str body, struct buf *out);

/* Most bodies are one line of printable ASCII without encoded words, which is its own decoded form: true, and it
 * without the blanks around it. */
bool rfc2047_is_plain(struct str body, struct str *ret_text);

/* Appends UTF-8 text as encoded words of at most 75 characters, separated by blanks, if it has a byte above 126 or
 * would be taken for an encoded word; else as it is. */
int rfc2047_encode(struct str text, struct buf *out);

#endif
