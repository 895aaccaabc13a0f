/*
 * TLS server contexts. No logging; the caller tells why.
 */
#include "shared/crypto/server.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/crypto/ticket.h"

/* Forward secrecy and authenticated encryption only; every client of the last ten years has one of them. */
#define CIPHERS_TLS12                                                                                                  \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"                         \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define GROUPS "X25519:P-256:P-384:X448:P-521"

#define CHAIN_MAX   10   /* certificates of one chain */
#define TICKET_TIME 7200 /* seconds a session can be resumed */

static int read_file(int fd, struct buf *out)
{
    ssize_t n;
    int r;

    /* Room for the largest file at once: growing would leave copies of a key behind. */
    r = buf_reserve(out, SERVER_FILE_MAX);
    if (r < 0)
        return r;
    do {
        char piece[4096];
        n = read(fd, piece, sizeof(piece));
        if (n < 0 && errno != EINTR)
            return -errno;
        r = n > 0 ? buf_add(out, piece, (size_t)n) : 0;
        secret_wipe(piece, sizeof(piece));
        if (r < 0)
            return r;
    } while (n != 0);
    return 0;
}

/* No terminal, no passphrase: an encrypted key is an error. */
static int no_passphrase(char *out, int size, int is_writing, void *data)
{
    (void)out;
    (void)size;
    (void)is_writing;
    (void)data;
    return -1;
}

static int use_chain(SSL_CTX *ctx, struct str pem, const char **ret_why)
{
    BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    X509 *x = bio ? PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL) : NULL;
    int r = 0;

    *ret_why = "no PEM certificate in the file";
    if (!x || SSL_CTX_use_certificate(ctx, x) != 1) {
        if (x)
            *ret_why = "certificate not usable (key too small?)";
        r = -EINVAL;
    }
    X509_free(x);
    for (int i = 0; r == 0 && i < CHAIN_MAX && (x = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)); i++)
        if (SSL_CTX_add0_chain_cert(ctx, x) != 1) {
            X509_free(x);
            *ret_why = "chain certificate not usable";
            r = -EINVAL;
        }
    BIO_free(bio);
    ERR_clear_error();
    return r;
}

static int use_key(SSL_CTX *ctx, struct str pem, const char **ret_why)
{
    BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    int r = 0;

    if (!key) {
        *ret_why = "no PEM private key without passphrase in the file";
        r = -EINVAL;
    } else if (SSL_CTX_use_PrivateKey(ctx, key) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
        *ret_why = "private key does not belong to the certificate";
        r = -EINVAL;
    }
    EVP_PKEY_free(key);
    BIO_free(bio);
    ERR_clear_error();
    return r;
}

/* Takes the first name of ours that the client offers. */
static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                       unsigned in_len, void *data)
{
    const struct server *s = data;
    unsigned char *chosen;

    (void)ssl;
    if (SSL_select_next_proto(&chosen, out_len, s->alpn, (unsigned)s->alpn_len, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int choose_certificate(SSL *ssl, int *alert, void *data)
{
    const struct server *s = data;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    (void)alert;
    for (size_t i = 0; name && i < s->count; i++)
        if (X509_check_host(SSL_CTX_get0_certificate(s->contexts[i]), name, 0, 0, NULL) == 1) {
            (void)SSL_set_SSL_CTX(ssl, s->contexts[i]);
            return SSL_TLSEXT_ERR_OK;
        }
    return name ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static int configure(SSL_CTX *ctx, struct server *s)
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
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 || SSL_CTX_set_cipher_list(ctx, CIPHERS_TLS12) != 1 ||
        SSL_CTX_set1_groups_list(ctx, groups) != 1 || SSL_CTX_set_num_tickets(ctx, 0) != 1 ||
        SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1) != 1)
        return -EINVAL;
    return 0;
}

int server_add_certificate(struct server *s, int certificate, int key, const char **ret_why)
{
    struct buf pem = BUF_INIT(SERVER_FILE_MAX);
    SSL_CTX *ctx = NULL;
    int r;

    *ret_why = "unreadable";
    if (s->count >= SERVER_CERTIFICATES_MAX)
        return -ENOBUFS;
    r = read_file(certificate, &pem);
    if (r == 0)
        ctx = SSL_CTX_new(TLS_server_method());
    if (r == 0)
        r = ctx ? configure(ctx, s) : -ENOMEM;
    if (r == 0)
        r = use_chain(ctx, buf_str(&pem), ret_why);
    buf_wipe_finish(&pem);
    if (r == 0) {
        *ret_why = "key unreadable";
        r = read_file(key, &pem);
    }
    if (r == 0)
        r = use_key(ctx, buf_str(&pem), ret_why);
    buf_wipe_finish(&pem);
    if (r < 0) {
        SSL_CTX_free(ctx);
        return r;
    }
    s->contexts[s->count++] = ctx;
    return 0;
}

int server_certificate_age(const struct server *s)
{
    for (size_t i = 0; i < s->count; i++) {
        const X509 *x = SSL_CTX_get0_certificate(s->contexts[i]);

        if (x && X509_cmp_current_time(X509_get0_notAfter(x)) < 0)
            return 1;
        if (x && X509_cmp_current_time(X509_get0_notBefore(x)) > 0)
            return -1;
    }
    return 0;
}

int server_set_tickets(struct server *s, int fd)
{
    struct server_ticket_key keys[SERVER_TICKET_KEYS_MAX];
    ssize_t n;

    _Static_assert(sizeof(struct server_ticket_key) == SERVER_TICKET_KEY, "a key is read as it stands in the file");
    do
        n = pread(fd, keys, sizeof(keys), 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    if (n == 0 || n % SERVER_TICKET_KEY != 0)
        return -EINVAL;
    s->ticket_count = (size_t)n / SERVER_TICKET_KEY;
    memcpy(s->tickets, keys, (size_t)n);
    secret_wipe(keys, sizeof(keys));
    for (size_t i = 0; i < s->count; i++) {
        (void)SSL_CTX_clear_options(s->contexts[i], SSL_OP_NO_TICKET);
        (void)SSL_CTX_set_num_tickets(s->contexts[i], 1);
        (void)SSL_CTX_set_tlsext_ticket_key_evp_cb(s->contexts[i], ticket_key);
    }
    return 0;
}

/* Says yes to every certificate: one that cannot be verified counts as none, see SSL_get_verify_result(). */
static int accept_any(int is_fine, X509_STORE_CTX *store)
{
    (void)is_fine;
    (void)store;
    return 1;
}

int server_ask_certificate(struct server *s, int authorities, const char **ret_why)
{
    struct buf pem = BUF_INIT(SERVER_FILE_MAX);
    size_t found = 0;
    BIO *bio = NULL;
    X509 *x;
    int r = read_file(authorities, &pem);

    *ret_why = "unreadable";
    if (r == 0)
        bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    while (bio && found < SERVER_FILE_MAX && (x = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL))) {
        for (size_t i = 0; i < s->count; i++)
            if (X509_STORE_add_cert(SSL_CTX_get_cert_store(s->contexts[i]), x) != 1 ||
                SSL_CTX_add_client_CA(s->contexts[i], x) != 1)
                r = -EINVAL;
        X509_free(x);
        found++;
    }
    BIO_free(bio);
    ERR_clear_error();
    buf_finish(&pem);
    if (r < 0)
        return r;
    if (found == 0) {
        *ret_why = "no PEM certificate in the file";
        return -EINVAL;
    }
    for (size_t i = 0; i < s->count; i++)
        SSL_CTX_set_verify(s->contexts[i], SSL_VERIFY_PEER, accept_any);
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

size_t server_exporter(SSL *ssl, uint8_t out[static 32])
{
    static const char label[] = "EXPORTER-Channel-Binding";

    /* RFC 9266 4.1: unique only with TLS 1.3 or the extended master secret. */
    if (SSL_version(ssl) < TLS1_3_VERSION && SSL_get_extms_support(ssl) != 1)
        return 0;
    return SSL_export_keying_material(ssl, out, 32, label, sizeof(label) - 1, NULL, 0, 1) == 1 ? 32 : 0;
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
