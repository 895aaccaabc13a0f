/*
 * The arithmetic of SCRAM (RFC 5802 3, RFC 7677). Messages are the business of handlers/auth and handlers/relay.
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

/* The client's side: ClientProof and the ServerSignature to expect, digest_size() bytes each. 0 or -ENOMEM, -EINVAL. */
int scram_prove(enum digest d, struct str password, struct str salt, uint32_t iterations, struct str auth_message,
                uint8_t ret_proof[static DIGEST_MAX], uint8_t ret_server[static DIGEST_MAX]);

#endif
