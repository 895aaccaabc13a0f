/*
 * The arithmetic of SCRAM, server side (RFC 5802 3, RFC 7677). Messages are handlers/auth's business.
 */
#ifndef CRYPTO_SCRAM_H
#define CRYPTO_SCRAM_H

#include "shared/crypto/digest.h"

#define SCRAM_ITERATIONS 4096 /* RFC 7677 4: at least; the passwords are generated, so more would only cost time */

struct scram_keys {
    uint8_t stored[DIGEST_MAX]; /* digest_size() bytes each */
    uint8_t server[DIGEST_MAX];
};

/* StoredKey and ServerKey of a password; `salt` is raw. 0 or -ENOMEM, -EINVAL. */
int scram_derive(enum digest d, struct str password, struct str salt, uint32_t iterations, struct scram_keys *ret);

/* Does the client's proof (raw) belong to StoredKey? 0, -EACCES no, -ENOMEM. */
int scram_check(enum digest d, const struct scram_keys *keys, struct str auth_message, struct str proof);

/* ServerSignature: digest_size() bytes. 0 or -ENOMEM. */
int scram_sign(enum digest d, const struct scram_keys *keys, struct str auth_message, uint8_t out[static DIGEST_MAX]);

#endif
