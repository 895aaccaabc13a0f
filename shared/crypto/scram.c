#include "shared/crypto/scram.h"

#include <errno.h>

#include "shared/base/secret.h"

static struct str view(const uint8_t *p, size_t len)
{
    return (struct str){(const char *)p, len};
}

int scram_derive(enum digest d, struct str password, struct str salt, uint32_t iterations, struct scram_keys *ret)
{
    size_t size = digest_size(d);
    uint8_t salted[DIGEST_MAX], client[DIGEST_MAX];
    struct scram_keys keys = {0};
    int r = digest_pbkdf2(d, password, salt, iterations, salted);

    if (r == 0)
        r = digest_hmac(d, view(salted, size), STR("Client Key"), client);
    if (r == 0)
        r = digest_of(d, view(client, size), keys.stored);
    if (r == 0)
        r = digest_hmac(d, view(salted, size), STR("Server Key"), keys.server);
    if (r == 0)
        *ret = keys;
    secret_wipe(salted, sizeof(salted));
    secret_wipe(client, sizeof(client));
    secret_wipe(&keys, sizeof(keys));
    return r;
}

int scram_check(enum digest d, const struct scram_keys *keys, struct str auth_message, struct str proof)
{
    size_t size = digest_size(d);
    uint8_t key[DIGEST_MAX], stored[DIGEST_MAX];
    int r;

    if (proof.len != size)
        return -EACCES;
    /* ClientKey = ClientProof XOR ClientSignature; H(ClientKey) must be StoredKey */
    r = digest_hmac(d, view(keys->stored, size), auth_message, key);
    if (r < 0)
        return r;
    for (size_t i = 0; i < size; i++)
        key[i] ^= (uint8_t)proof.ptr[i];
    r = digest_of(d, view(key, size), stored);
    if (r == 0 && !secret_equal(view(stored, size), view(keys->stored, size)))
        r = -EACCES;
    secret_wipe(key, sizeof(key));
    return r;
}

int scram_sign(enum digest d, const struct scram_keys *keys, struct str auth_message, uint8_t out[static DIGEST_MAX])
{
    return digest_hmac(d, view(keys->server, digest_size(d)), auth_message, out);
}

int scram_prove(enum digest d, struct str password, struct str salt, uint32_t iterations, struct str auth_message,
                uint8_t ret_proof[static DIGEST_MAX], uint8_t ret_server[static DIGEST_MAX])
{
    size_t size = digest_size(d);
    uint8_t salted[DIGEST_MAX], client[DIGEST_MAX], stored[DIGEST_MAX], server[DIGEST_MAX], signature[DIGEST_MAX];
    int r = digest_pbkdf2(d, password, salt, iterations, salted);

    if (r == 0)
        r = digest_hmac(d, view(salted, size), STR("Client Key"), client);
    if (r == 0)
        r = digest_of(d, view(client, size), stored);
    if (r == 0)
        r = digest_hmac(d, view(stored, size), auth_message, signature);
    if (r == 0)
        r = digest_hmac(d, view(salted, size), STR("Server Key"), server);
    if (r == 0)
        r = digest_hmac(d, view(server, size), auth_message, ret_server);
    for (size_t i = 0; r == 0 && i < size; i++)
        ret_proof[i] = client[i] ^ signature[i];
    secret_wipe(salted, sizeof(salted));
    secret_wipe(client, sizeof(client));
    secret_wipe(server, sizeof(server));
    return r;
}
