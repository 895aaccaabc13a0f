/*
 * Hashes, HMAC and PBKDF2 of OpenSSL.
 */
#ifndef CRYPTO_DIGEST_H
#define CRYPTO_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "shared/base/str.h"

#define DIGEST_MAX 64 /* bytes of the longest one */

enum digest {
    DIGEST_MD5, /* CRAM-MD5 and APOP only */
    DIGEST_SHA1,
    DIGEST_SHA256,
};

/* Bytes of its result: 16, 20, 32. */
size_t digest_size(enum digest d);

/* The hash of `data`, of two pieces behind each other, or keyed (RFC 2104). `out` takes digest_size() bytes.
 * 0, or -ENOMEM (also: the algorithm is switched off by the system's crypto policy). */
int digest_of(enum digest d, struct str data, uint8_t out[static DIGEST_MAX]);
int digest_of_two(enum digest d, struct str first, struct str second, uint8_t out[static DIGEST_MAX]);
int digest_hmac(enum digest d, struct str key, struct str data, uint8_t out[static DIGEST_MAX]);

/* PBKDF2 with HMAC (RFC 8018 5.2; "Hi()" of RFC 5802 2.2). digest_size() bytes. 0 or -ENOMEM. */
int digest_pbkdf2(enum digest d, struct str password, struct str salt, uint32_t iterations,
                  uint8_t out[static DIGEST_MAX]);

#endif
