/*
 * xtext (RFC 3461 4): how ENVID, ORCPT, XCLIENT and AUTH= write what could not stand in a command. Pure.
 */
#ifndef QUEUE_XTEXT_H
#define QUEUE_XTEXT_H

#include <stdbool.h>

#include "shared/base/buf.h"

/* Is `s` xtext? The empty one is. */
bool xtext_is_valid(struct str s);

/* Append the encoded, the decoded form. 0, -EINVAL: not xtext, or a NUL in it; -ENOBUFS, -ENOMEM; on failure the buffer
 * may have a part. */
int xtext_encode(struct str plain, struct buf *out);
int xtext_decode(struct str s, struct buf *out);

/* RFC 6533 3: utf-8-addr-xtext, where \x{E9} writes what is not ASCII, and utf-8-addr-unitext, where it stands as it
 * is. Either is valid; the empty one is. */
bool utf8_xtext_is_valid(struct str s);

/* Append the form in ASCII of a valid one, and the address itself. 0, -EINVAL, -ENOBUFS, -ENOMEM. */
int utf8_xtext_encode(struct str s, struct buf *out);
int utf8_xtext_decode(struct str s, struct buf *out);

#endif
