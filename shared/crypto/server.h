/*
 * The TLS server: contexts made from opened files, one per certificate, chosen by the name that the client asks for.
 * TLS 1.2 and 1.3, no renegotiation, no compression, no session cache (processes share sessions by tickets only).
 */
#ifndef CRYPTO_SERVER_H
#define CRYPTO_SERVER_H

#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/limits.h"
#include "shared/base/str.h"

#define SERVER_FILE_MAX        (256u << 10) /* bytes of one PEM file */
#define SERVER_TICKET_KEY      80           /* bytes: 16 name, 32 AES-256, 32 HMAC-SHA-256 */
#define SERVER_TICKET_KEYS_MAX 4            /* newest first; the others are for tickets given out before */
#define SERVER_ALPN_MAX        128          /* bytes of the accepted names */

struct server_ticket_key {
    uint8_t name[16];
    uint8_t aes[32];
    uint8_t hmac[32];
};

struct server {
    SSL_CTX *contexts[LIMIT_CERTIFICATES];
    size_t count;
    struct server_ticket_key tickets[SERVER_TICKET_KEYS_MAX];
    size_t ticket_count;
    uint8_t alpn[SERVER_ALPN_MAX]; /* in wire form (RFC 7301 3.1) */
    size_t alpn_len;
};

#define _cleanup_server_ _cleanup_(server_finish)

/* Frees what the struct holds, not the struct. */
void server_finish(struct server *s);

/* Adds a certificate chain and its key, both PEM, read from fds that stay the caller's. The first one serves clients
 * that name no host, or an unknown one. *ret_why (static text) explains a failure. -EINVAL no certificate or key in the
 * file, not matching, too weak; -ENOBUFS too many or too large; errno of read(2). */
int server_add_certificate(struct server *s, int certificate, int key, const char **ret_why);

/* Has the first certificate of any chain a validity that does not include now? -1 not yet valid, 1 expired, with its
 * number in *ret_which; 0 fine. */
int server_certificate_age(const struct server *s, size_t *ret_which);

/* Gives a context the policy of the project: versions, ciphers, no renegotiation. For server_add_certificate(). */
int server_configure(struct server *s, SSL_CTX *ctx);

/* Reads session ticket keys (SERVER_TICKET_KEY bytes each, newest first). Without keys no tickets are given.
 * -EINVAL: not a whole number of keys. */
int server_set_tickets(struct server *s, int fd);

/* Asks clients for a certificate, which they may refuse, by these authorities (PEM). Call after the certificates. */
int server_ask_certificate(struct server *s, int authorities, const char **ret_why);

/* Names accepted in ALPN, blank-separated; a client that offers only others is refused (RFC 7301 3.2). */
int server_set_alpn(struct server *s, struct str names);

/* A connection on a socket pair of fds. The server must outlive the handshake, until server_release(). NULL: -ENOMEM.
 */
int server_connect(struct server *s, int rfd, int wfd, SSL **ret);

/* After the handshake: frees and wipes keys and certificates, which are not needed any more. */
void server_release(struct server *s, SSL *ssl);

/* The channel binding tls-server-end-point (RFC 5929 4), after the handshake: bytes written, 0 if there is none. */
size_t server_end_point(SSL *ssl, uint8_t out[static EVP_MAX_MD_SIZE]);

#endif
