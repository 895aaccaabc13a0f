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

#endif
