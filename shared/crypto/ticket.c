#include "shared/crypto/ticket.h"

#include <openssl/core_names.h>
#include <openssl/rand.h>
#include <string.h>

#include "shared/crypto/server.h"

#define IV_LEN 16 /* of AES in CBC mode */

static int set_keys(const struct server_ticket_key *k, const unsigned char *iv, EVP_CIPHER_CTX *cipher,
                    EVP_MAC_CTX *mac, int is_encrypting)
{
    char hash[] = "SHA256";
    unsigned char hmac[sizeof(k->hmac)];
    OSSL_PARAM params[3];
    int is_done;

    memcpy(hmac, k->hmac, sizeof(hmac));
    params[0] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, hmac, sizeof(hmac));
    params[1] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, hash, 0);
    params[2] = OSSL_PARAM_construct_end();
    is_done = EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->aes, iv, is_encrypting) == 1 &&
              EVP_MAC_CTX_set_params(mac, params) == 1;
    OPENSSL_cleanse(hmac, sizeof(hmac));
    return is_done;
}

int ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
               int is_encrypting)
{
    const struct server *s = SSL_get_app_data(ssl);

    /* After the handshake the keys are gone: no further ticket is given, none is asked for. */
    if (!s || s->ticket_count == 0)
        return 0;
    if (is_encrypting) {
        memcpy(name, s->tickets[0].name, sizeof(s->tickets[0].name));
        if (RAND_bytes(iv, IV_LEN) != 1)
            return -1;
        return set_keys(&s->tickets[0], iv, cipher, mac, 1) ? 1 : -1;
    }
    for (size_t i = 0; i < s->ticket_count; i++)
        if (memcmp(name, s->tickets[i].name, sizeof(s->tickets[i].name)) == 0)
            /* 2: good, but under an old key (or TLS 1.3, where each ticket is used once): give a new one */
            return !set_keys(&s->tickets[i], iv, cipher, mac, 0) ? -1
                   : i > 0 || SSL_version(ssl) >= TLS1_3_VERSION ? 2
                                                                 : 1;
    return 0;
}
