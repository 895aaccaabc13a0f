/*
 * Base64 as SASL uses it (RFC 4648 4): one line, padding required, no other characters.
 */
#ifndef LOGIN_BASE64_H
#define LOGIN_BASE64_H

#include "shared/base/buf.h"

/* Append. 0, -ENOBUFS, -ENOMEM; decode also -EINVAL (the buffer is then as before). */
int base64_encode(struct str data, struct buf *out);
int base64_decode(struct str text, struct buf *out);

#endif
