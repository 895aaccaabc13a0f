/*
 * What the TLS server is made of: certificates, keys, authorities, ticket keys, read from files that the admin and the
 * monitor wrote. Nothing here sees a byte of a stranger.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/crypto/server.h"
#include "shared/crypto/ticket.h"

#define CHAIN_MAX 10 /* certificates of one chain */

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

int server_add_certificate(struct server *s, int certificate, int key, const char **ret_why)
{
    struct buf pem = BUF_INIT(SERVER_FILE_MAX);
    SSL_CTX *ctx = NULL;
    int r;

    *ret_why = "unreadable";
    if (s->count >= LIMIT_CERTIFICATES)
        return -ENOBUFS;
    r = read_file(certificate, &pem);
    if (r == 0)
        ctx = SSL_CTX_new(TLS_server_method());
    if (r == 0)
        r = ctx ? server_configure(s, ctx) : -ENOMEM;
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

int server_certificate_age(const struct server *s, size_t *ret_which)
{
    for (size_t i = 0; i < s->count; i++) {
        const X509 *x = SSL_CTX_get0_certificate(s->contexts[i]);

        *ret_which = i;
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
    return 1;
}

int server_ask_certificate(struct server *s, int authorities, const char **ret_why)
{
    struct buf pem = BUF_INIT(SERVER_FILE_MAX);
    unsigned char id[EVP_MAX_MD_SIZE];
    unsigned id_len = 0;
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
    /* A session whose certificate other authorities vouched for must not be resumed here. */
    if (r == 0 && EVP_Digest(buf_cstr(&pem), pem.len, id, &id_len, EVP_sha256(), NULL) != 1)
        r = -ENOMEM;
    buf_finish(&pem);
    if (r < 0)
        return r;
    if (found == 0) {
        *ret_why = "no PEM certificate in the file";
        return -EINVAL;
    }
    for (size_t i = 0; i < s->count; i++) {
        SSL_CTX_set_verify(s->contexts[i], SSL_VERIFY_PEER, accept_any);
        if (SSL_CTX_set_session_id_context(s->contexts[i], id, id_len) != 1)
            return -EINVAL;
    }
    return 0;
}
