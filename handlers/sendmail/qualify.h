/*
 * Address fields as local programs write them: "To: root", "From: alice (Alice)". Other machines know no such names, so
 * that each gets our domain (RFC 5322 3.4.1). Pure.
 */
#ifndef SENDMAIL_QUALIFY_H
#define SENDMAIL_QUALIFY_H

#include "shared/base/buf.h"

/* Appends the field body with "@domain" behind every address that has none; all else byte by byte. What is no address
 * stays as it is. 0, -ENOBUFS, -ENOMEM. */
int qualify_body(struct str body, struct str domain, struct buf *out);

#endif
