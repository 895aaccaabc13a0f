/*
 * Internationalised domains: the ASCII form (A-labels, RFC 5890 2.3.2.1) of a domain that has U-labels, for comparison.
 */
#ifndef ROUTE_IDNA_H
#define ROUTE_IDNA_H

#include "shared/base/buf.h"

/* Appends the domain in lower case with each non-ASCII label as xn-- and Punycode (RFC 3492 6.3). 0, -EINVAL: not
 * UTF-8, -ENOBUFS, -ENOMEM. */
int idna_to_ascii(struct str domain, struct buf *out);

#endif
