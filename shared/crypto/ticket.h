/*
 * Session tickets (RFC 5077, RFC 8446 4.6.1) under keys that all processes share: OpenSSL's callback.
 */
#ifndef CRYPTO_TICKET_H
#define CRYPTO_TICKET_H

#include <openssl/ssl.h>

/* SSL_CTX_set_tlsext_ticket_key_evp_cb(3). The struct server is found through SSL_get_app_data(). */
int ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
               int is_encrypting);

#endif
