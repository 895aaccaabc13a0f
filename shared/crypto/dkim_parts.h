/*
 * What the files of DKIM share. Private to shared/crypto.
 */
#ifndef CRYPTO_DKIM_PARTS_H
#define CRYPTO_DKIM_PARTS_H

#include "shared/crypto/dkim.h"

#define DKIM_SIGNATURE_MAX 1024 /* bytes: RSA of 8192 bits */

/* The signature of a SHA-256 hash: PKCS #1 1.5 of it (RFC 6376 3.3.1), or PureEdDSA over it (RFC 8463 3). */
int dkim_key_sign(const struct dkim_key *k, const uint8_t hash[32], uint8_t out[static DKIM_SIGNATURE_MAX],
                  size_t *ret_len);

#endif
