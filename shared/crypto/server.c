/*
 * TLS server contexts: policy, choices made for a client, facts of a finished handshake.
 */
#include "shared/crypto/server.h"

#include <errno.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "shared/base/secret.h"

/* Forward secrecy and authenticated encryption only; every client of the last ten years has one of them. */
#define CIPHERS_TLS12                                                                                                  \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"                         \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define GROUPS "X25519:P-256:P-384:X448:P-521"

#define TICKET_TIME 7200 /* seconds a session can be resumed */

/* Takes the first name of ours that the client offers. */
static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                       unsigned in_len, void *data)
{
    const struct server *s = data;
    unsigned char *chosen;

    if (SSL_select_next_proto(&chosen, out_len, s->alpn, (unsigned)s->alpn_len, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int choose_certificate(SSL *ssl, int *alert, void *data)
{
    const struct server *s = data;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    for (size_t i = 0; name && i < s->count; i++)
        if (X509_check_host(SSL_CTX_get0_certificate(s->contexts[i]), name, 0, 0, NULL) == 1) {
            (void)SSL_set_SSL_CTX(ssl, s->contexts[i]);
            return SSL_TLSEXT_ERR_OK;
        }
    return name ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

int server_configure(struct server *s, SSL_CTX *ctx)
{
    static const unsigned char id[] = "pennypost";
    char groups[] = GROUPS; /* OpenSSL's macro wants a char * that it does not write to */

    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_PRIORITIZE_CHACHA | SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_TICKET);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_timeout(ctx, TICKET_TIME);
    (void)SSL_CTX_set_tlsext_servername_callback(ctx, choose_certificate);
    (void)SSL_CTX_set_tlsext_servername_arg(ctx, s);
    /* The system's configuration may have said 1.3. */
    if (SSL_CTX_get_min_proto_version(ctx) < TLS1_2_VERSION && SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1)
        return -EINVAL;
    if (SSL_CTX_set_cipher_list(ctx, CIPHERS_TLS12) != 1 || SSL_CTX_set1_groups_list(ctx, groups) != 1 ||
        SSL_CTX_set_num_tickets(ctx, 0) != 1 ||
        SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1) != 1)
        return -EINVAL;
    return 0;
}

int server_set_alpn(struct server *s, struct str names)
{
    struct str name;

    s->alpn_len = 0;
    while (str_word(&names, &name)) {
        if (name.len > UINT8_MAX || s->alpn_len + 1 + name.len > sizeof(s->alpn))
            return -ENOBUFS;
        s->alpn[s->alpn_len++] = (uint8_t)name.len;
        memcpy(s->alpn + s->alpn_len, name.ptr, name.len);
        s->alpn_len += name.len;
    }
    for (size_t i = 0; s->alpn_len > 0 && i < s->count; i++)
        SSL_CTX_set_alpn_select_cb(s->contexts[i], choose_alpn, s);
    return 0;
}

int server_connect(struct server *s, int rfd, int wfd, SSL **ret)
{
    SSL *ssl = s->count > 0 ? SSL_new(s->contexts[0]) : NULL;

    if (!ssl)
        return -ENOMEM;
    if (SSL_set_rfd(ssl, rfd) != 1 || SSL_set_wfd(ssl, wfd) != 1 || SSL_set_app_data(ssl, s) != 1) {
        SSL_free(ssl);
        return -ENOMEM;
    }
    SSL_set_accept_state(ssl);
    *ret = ssl;
    return 0;
}

void server_release(struct server *s, SSL *ssl)
{
    SSL_certs_clear(ssl);
    server_finish(s);
}

void server_finish(struct server *s)
{
    for (size_t i = 0; i < s->count; i++)
        SSL_CTX_free(s->contexts[i]);
    secret_wipe(s, sizeof(*s));
}

size_t server_end_point(SSL *ssl, uint8_t out[static EVP_MAX_MD_SIZE])
{
    X509 *x = SSL_get_certificate(ssl);
    const EVP_MD *md = EVP_sha256();
    unsigned len = 0;
    int hash = NID_undef;

    if (!x)
        return 0;
    /* RFC 5929 4.1: the hash of the certificate's signature, SHA-256 instead of MD5 and SHA-1; none if it has none. */
    if (X509_get_signature_info(x, &hash, NULL, NULL, NULL) != 1 || hash == NID_undef)
        return 0;
    if (hash != NID_md5 && hash != NID_sha1)
        md = EVP_get_digestbynid(hash);
    return md && X509_digest(x, md, out, &len) == 1 ? len : 0;
}
