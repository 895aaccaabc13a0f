/*
 * Character sets: a streaming converter to UTF-8 on top of iconv. US-ASCII, UTF-8, ISO-8859-1 and windows-1252 are done
 * here without it. The output is always valid UTF-8: what cannot be converted becomes U+FFFD.
 */
#ifndef MIME_CHARSET_H
#define MIME_CHARSET_H

#include <stdbool.h>

#include "shared/base/buf.h"

struct charset;

/* By MIME name (aliases and case as iconv knows them, "" and "x-unknown" too). An unknown one is read as UTF-8 where it
 * is valid, else as windows-1252, byte by byte. *ret_is_known (may be NULL) tells. 0, -ENOMEM. */
int charset_new(struct str name, struct charset **ret, bool *ret_is_known);
void charset_free(struct charset *c); /* NULL is fine */

/* Back to the initial state, for the next text. */
void charset_reset(struct charset *c);

/* Is a piece that is nothing but ASCII the same in UTF-8? (Then it need not be fed.) */
bool charset_keeps_ascii(const struct charset *c);

/* Appends the text in UTF-8; a character cut by the end of the piece waits for the next. 0, -ENOBUFS, -ENOMEM. */
int charset_feed(struct charset *c, struct str piece, struct buf *out);

/* The text ended: a character that was cut becomes U+FFFD. */
int charset_end(struct charset *c, struct buf *out);

/* Is it known? For SEARCH CHARSET and its BADCHARSET answer (RFC 9051 7.1). */
bool charset_is_known(struct str name);

/* A whole text at once. With is_strict -EILSEQ when a byte of it is not valid (out is as before then), -ENOENT when the
 * charset is unknown. */
int charset_to_utf8(struct str name, struct str text, bool is_strict, struct buf *out);

#endif
