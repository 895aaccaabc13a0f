/*
 * TLS over a transport by way of two memory BIOs: OpenSSL never touches the fds, the transport does all waiting.
 */
#include "shared/crypto/client.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/macros.h"
#include "shared/crypto/binding.h"

/* Mail servers are older than browsers' servers: opportunistic TLS takes whatever OpenSSL's default list (narrowed by
 * the system's crypto policy) still allows from TLS 1.2 up; no encryption without forward secrecy is preferred to it.
 */
#define CIPHERS_TLS12 "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DEFAULT:!aNULL:!eNULL:!PSK:!SRP"
#define USAGE_DANE_TA 2 /* RFC 7218 2.1 */
#define USAGE_DANE_EE 3
#define PIECE         16384 /* one TLS record's payload */
#define TURNS_MAX     1000  /* reads that may bring no byte of payload: key updates, tickets, handshake messages */

struct client_tls {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in;  /* what came from the network; belongs to ssl, like out */
    BIO *out; /* what goes there */
    enum client_verify verify;
    struct transport_filter filter;
};

/* ---- bytes ---- */

/* Hands what OpenSSL wants to say to the network. */
static int flush(struct client_tls *c, struct transport *t)
{
    char piece[PIECE];
    int n, r = 0;

    while (r == 0 && (n = BIO_read(c->out, piece, sizeof(piece))) > 0)
        r = transport_write(t, piece, (size_t)n);
    return r;
}

/* Gives OpenSSL one more piece from the network. 0, -ENODATA at its end. */
static int feed(struct client_tls *c, struct transport *t)
{
    char piece[PIECE];
    ssize_t n = transport_read(t, piece, sizeof(piece));

    if (n < 0)
        return (int)n;
    if (n == 0)
        return -ENODATA;
    return BIO_write(c->in, piece, (int)n) == (int)n ? 0 : -ENOMEM;
}

/* What OpenSSL's last call asks for. 0: call again. */
static int satisfy(struct client_tls *c, struct transport *t, int result)
{
    int error = SSL_get_error(c->ssl, result);
    int r;

    if (error == SSL_ERROR_ZERO_RETURN)
        return -ENODATA;
    r = flush(c, t);
    if (r < 0)
        return r;
    if (error == SSL_ERROR_WANT_READ)
        return feed(c, t);
    return error == SSL_ERROR_WANT_WRITE ? 0 : -EPROTO;
}

static ssize_t filter_read(struct transport *t, void *data, size_t len)
{
    struct client_tls *c = t->filter->context;
    struct transport raw = transport_below(t);

    for (unsigned turn = 0; turn < TURNS_MAX; turn++) {
        size_t n = 0;
        int result, r;

        ERR_clear_error();
        result = SSL_read_ex(c->ssl, data, len, &n);
        if (result == 1) {
            r = flush(c, &raw);
            return r < 0 ? r : (ssize_t)n;
        }
        r = satisfy(c, &raw, result);
        if (r < 0)
            return r == -ENODATA ? 0 : r;
    }
    return -EPROTO;
}

static int filter_write(struct transport *t, const void *data, size_t len)
{
    struct client_tls *c = t->filter->context;
    struct transport raw = transport_below(t);
    const char *at = data;

    while (len > 0) {
        size_t n = 0, want = len < PIECE ? len : PIECE;
        int result, r;

        ERR_clear_error();
        result = SSL_write_ex(c->ssl, at, want, &n);
        r = result == 1 ? flush(c, &raw) : satisfy(c, &raw, result);
        if (r < 0)
            return r == -ENODATA ? -EPIPE : r;
        at += n;
        len -= n;
    }
    return 0;
}

static bool filter_has_input(const struct transport *t)
{
    const struct client_tls *c = t->filter->context;

    return SSL_pending(c->ssl) > 0 || BIO_ctrl_pending(c->in) > 0;
}

/* ---- what must be true ---- */

int client_library_init(void)
{
    return OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG, NULL) == 1 ? 0 : -ENOMEM;
}

static int configure(struct client_tls *c)
{
    SSL_CTX_set_options(c->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF |
                                    SSL_OP_NO_TICKET);
    (void)SSL_CTX_set_mode(c->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    (void)SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(c->ctx, c->verify == CLIENT_VERIFY_NONE ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_set_min_proto_version(c->ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(c->ctx, CIPHERS_TLS12) != 1)
        return -EINVAL;
    return c->verify == CLIENT_VERIFY_DANE && SSL_CTX_dane_enable(c->ctx) != 1 ? -ENOMEM : 0;
}

/* RFC 7672 3.1.1: with DANE-EE neither names nor dates count. */
static int start_dane(struct client_tls *c, struct str sni)
{
    _cleanup_free_ char *base = str_dup(sni);

    if (!base || SSL_dane_enable(c->ssl, base) != 1)
        return -ENOMEM;
    (void)SSL_dane_set_flags(c->ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
    return 0;
}

static int start(struct client_tls *c, struct str sni)
{
    _cleanup_free_ char *name = str_dup(sni);
    int r = name ? configure(c) : -ENOMEM;

    if (r < 0)
        return r;
    c->ssl = SSL_new(c->ctx);
    c->in = BIO_new(BIO_s_mem());
    c->out = BIO_new(BIO_s_mem());
    if (!c->ssl || !c->in || !c->out) {
        BIO_free(c->in);
        BIO_free(c->out);
        return -ENOMEM;
    }
    (void)BIO_set_mem_eof_return(c->in, -1);
    (void)BIO_set_mem_eof_return(c->out, -1);
    SSL_set_bio(c->ssl, c->in, c->out);
    SSL_set_connect_state(c->ssl);
    /* RFC 8461 4.2, RFC 6125: a certificate without names of hosts is nobody's; RFC 7672 3.2.3 takes its common name.
     */
    SSL_set_hostflags(c->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                  (c->verify == CLIENT_VERIFY_NAMES ? X509_CHECK_FLAG_NEVER_CHECK_SUBJECT : 0));
    if (sni.len > 0 && SSL_set_tlsext_host_name(c->ssl, name) != 1)
        return -ENOMEM;
    return c->verify == CLIENT_VERIFY_DANE ? start_dane(c, sni) : 0;
}

int client_new(enum client_verify verify, struct str sni, struct client_tls **ret)
{
    struct client_tls *c = calloc(1, sizeof(*c));
    int r;

    if (!c)
        return -ENOMEM;
    c->verify = verify;
    c->ctx = SSL_CTX_new(TLS_client_method());
    r = c->ctx ? start(c, sni) : -ENOMEM;
    ERR_clear_error();
    if (r < 0) {
        client_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

void client_free(struct client_tls *c)
{
    if (!c)
        return;
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    free(c);
}

static int read_file(int fd, struct buf *out)
{
    for (;;) {
        char piece[PIECE];
        ssize_t n = read(fd, piece, sizeof(piece));
        int r;

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return 0;
        r = n > 0 ? buf_add(out, piece, (size_t)n) : 0;
        if (r < 0)
            return r == -ENOBUFS ? -EFBIG : r;
    }
}

int client_trust(struct client_tls *c, int fd)
{
    _cleanup_buf_ struct buf pem = BUF_INIT(CLIENT_TRUST_MAX);
    X509_STORE *store = SSL_CTX_get_cert_store(c->ctx);
    int r = read_file(fd, &pem);
    BIO *bio = r == 0 ? BIO_new_mem_buf(pem.data ? pem.data : "", (int)pem.len) : NULL;
    unsigned count = 0;
    X509 *x;

    if (r < 0 || !bio)
        return r < 0 ? r : -ENOMEM;
    while ((x = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL))) {
        count += X509_STORE_add_cert(store, x) == 1;
        X509_free(x);
    }
    BIO_free(bio);
    ERR_clear_error();
    return count > 0 ? 0 : -EINVAL;
}

int client_name(struct client_tls *c, struct str name)
{
    _cleanup_free_ char *text = str_dup(name);

    if (!text)
        return -ENOMEM;
    return name.len > 0 && !str_has_nul(name) && SSL_add1_host(c->ssl, text) == 1 ? 0 : -EINVAL;
}

int client_tlsa(struct client_tls *c, uint8_t usage, uint8_t selector, uint8_t matching, struct str data)
{
    const unsigned char *bytes = (const unsigned char *)data.ptr;
    int r;

    if (usage != USAGE_DANE_TA && usage != USAGE_DANE_EE)
        return -ENOTSUP;
    r = SSL_dane_tlsa_add(c->ssl, usage, selector, matching, bytes, data.len);
    ERR_clear_error();
    return r > 0 ? 0 : -ENOTSUP;
}

/* ---- the handshake ---- */

static int explain(const struct client_tls *c, int r, char why[static CLIENT_WHY])
{
    long result = SSL_get_verify_result(c->ssl);
    unsigned long code = ERR_peek_error();

    if (r == -EPROTO && c->verify != CLIENT_VERIFY_NONE && result != X509_V_OK) {
        (void)snprintf(why, CLIENT_WHY, "certificate: %s", X509_verify_cert_error_string(result));
        return -EKEYREJECTED;
    }
    if (r == -EPROTO && code && ERR_reason_error_string(code))
        (void)snprintf(why, CLIENT_WHY, "%s", ERR_reason_error_string(code));
    else if (r == -EPROTO)
        (void)snprintf(why, CLIENT_WHY, "TLS error %lu", code);
    else
        (void)snprintf(why, CLIENT_WHY, "%s", r == -ENODATA ? "connection closed" : strerror(-r));
    return r;
}

int client_handshake(struct client_tls *c, struct transport *t, char why[static CLIENT_WHY])
{
    int r = 0;

    for (unsigned turn = 0; turn < TURNS_MAX && r == 0; turn++) {
        int result;

        ERR_clear_error();
        result = SSL_do_handshake(c->ssl);
        if (result != 1) {
            r = satisfy(c, t, result);
            continue;
        }
        r = flush(c, t);
        if (r < 0)
            break;
        c->filter = (struct transport_filter){
            .context = c, .read = filter_read, .write = filter_write, .has_input = filter_has_input};
        t->filter = &c->filter;
        return 0;
    }
    return explain(c, r == 0 ? -EPROTO : r, why);
}

void client_shutdown(struct client_tls *c, struct transport *t)
{
    struct transport raw = transport_below(t);

    ERR_clear_error();
    if (SSL_shutdown(c->ssl) >= 0)
        (void)flush(c, &raw); /* the other side may be gone already: nothing is lost by that */
}

const char *client_version(const struct client_tls *c)
{
    return SSL_get_version(c->ssl);
}

const char *client_cipher(const struct client_tls *c)
{
    return SSL_get_cipher_name(c->ssl);
}

size_t client_exporter(const struct client_tls *c, uint8_t out[static CLIENT_EXPORTER])
{
    _Static_assert(CLIENT_EXPORTER == BINDING_EXPORTER, "one size of channel bindings");

    return SSL_version(c->ssl) >= TLS1_3_VERSION ? binding_exporter(c->ssl, out) : 0;
}
