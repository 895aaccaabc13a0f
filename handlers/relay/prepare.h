/*
 * SASLprep (RFC 4013): names and passwords as SCRAM computes with them, so that "é" typed in one way is "é" typed in
 * the other.
 */
#ifndef RELAY_PREPARE_H
#define RELAY_PREPARE_H

#include "shared/base/buf.h"

/* Appends the prepared form of `text`. 0; -EINVAL: it is not UTF-8, or has what no name and no password may have
 * (RFC 4013 2.3, 2.4); -ENOMEM, -ENOBUFS. Code points that Unicode did not have in 2002 are taken as they are, as a
 * query does (RFC 3454 7). */
int prepare_sasl(struct str text, struct buf *out);

#endif
