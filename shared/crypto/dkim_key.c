/*
 * Private keys of DKIM, with OpenSSL. Runs in sign, in a sandbox, and in `pennypost dkim` as root.
 */
#include <errno.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "shared/base/macros.h"
#include "shared/crypto/dkim_parts.h"

#define RSA_LEAST 1024 /* bits, RFC 8301 3.2 */
#define RSA_MOST  8192

struct dkim_key {
    EVP_PKEY *key;
    enum dkim_type type;
};

/* A key without a pass phrase: nobody is there to ask. */
static int no_phrase(char *out, int size, int is_writing, void *context)
{
    return -1;
}

static int type_of(EVP_PKEY *key, enum dkim_type *ret)
{
    if (EVP_PKEY_is_a(key, "ED25519"))
        *ret = DKIM_ED25519;
    else if (EVP_PKEY_is_a(key, "RSA"))
        *ret = DKIM_RSA;
    else
        return -EBADMSG;
    if (*ret == DKIM_RSA && (EVP_PKEY_get_bits(key) < RSA_LEAST || EVP_PKEY_get_bits(key) > RSA_MOST))
        return -EKEYREJECTED;
    return 0;
}

int dkim_key_parse(struct str pem, struct dkim_key **ret)
{
    struct dkim_key *k = calloc(1, sizeof(*k));
    BIO *in = pem.len > DKIM_KEY_MAX ? NULL : BIO_new_mem_buf(pem.ptr, (int)pem.len);
    int e = 0;

    if (!k || !in) {
        free(k);
        BIO_free(in);
        return pem.len > DKIM_KEY_MAX ? -EBADMSG : -ENOMEM;
    }
    k->key = PEM_read_bio_PrivateKey(in, NULL, no_phrase, NULL);
    BIO_free(in);
    e = k->key ? type_of(k->key, &k->type) : -EBADMSG;
    if (e < 0) {
        dkim_key_free(k);
        return e;
    }
    *ret = k;
    return 0;
}

void dkim_key_free(struct dkim_key *k)
{
    if (k)
        EVP_PKEY_free(k->key);
    free(k);
}

enum dkim_type dkim_key_type(const struct dkim_key *k)
{
    return k->type;
}

static EVP_PKEY *make_key(enum dkim_type type, unsigned bits)
{
    return type == DKIM_ED25519 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
                                : EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)bits);
}

int dkim_key_make(enum dkim_type type, unsigned bits, struct buf *out)
{
    EVP_PKEY *key = bits < RSA_LEAST || bits > RSA_MOST ? NULL : make_key(type, bits);
    BIO *memory = BIO_new(BIO_s_secmem());
    char *text = NULL;
    long len = 0;
    int e = -ENOMEM;

    if (key && memory && PEM_write_bio_PrivateKey(memory, key, NULL, NULL, 0, NULL, NULL) == 1 &&
        (len = BIO_get_mem_data(memory, &text)) > 0)
        e = buf_add(out, text, (size_t)len);
    BIO_free(memory);
    EVP_PKEY_free(key);
    return e;
}

static int add_base64(const unsigned char *bytes, size_t len, struct buf *out)
{
    _cleanup_free_ unsigned char *text = malloc(4 * (len / 3 + 1) + 1);
    int n;

    if (!text)
        return -ENOMEM;
    n = EVP_EncodeBlock(text, bytes, (int)len);
    return buf_add(out, text, (size_t)n);
}

/* RFC 6376 3.6.1: a SubjectPublicKeyInfo; RFC 8463 4: the 32 bytes themselves. */
int dkim_key_record(const struct dkim_key *k, struct buf *out)
{
    unsigned char *der = NULL, raw[32];
    size_t len = sizeof(raw);
    int e = buf_printf(out, "v=DKIM1; k=%s; p=", k->type == DKIM_RSA ? "rsa" : "ed25519");

    if (e < 0)
        return e;
    if (k->type == DKIM_ED25519)
        return EVP_PKEY_get_raw_public_key(k->key, raw, &len) == 1 ? add_base64(raw, len, out) : -ENOMEM;
    e = i2d_PUBKEY(k->key, &der);
    if (e <= 0)
        return -ENOMEM;
    e = add_base64(der, (size_t)e, out);
    OPENSSL_free(der);
    return e;
}

static bool sign_rsa(EVP_PKEY_CTX *c, const uint8_t hash[32], uint8_t *out, size_t *len)
{
    return EVP_PKEY_sign_init(c) == 1 && EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_PADDING) == 1 &&
           EVP_PKEY_CTX_set_signature_md(c, EVP_sha256()) == 1 && EVP_PKEY_sign(c, out, len, hash, 32) == 1;
}

static bool sign_ed25519(EVP_PKEY *key, const uint8_t hash[32], uint8_t *out, size_t *len)
{
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool is_done = c && EVP_DigestSignInit(c, NULL, NULL, NULL, key) == 1 && EVP_DigestSign(c, out, len, hash, 32) == 1;

    EVP_MD_CTX_free(c);
    return is_done;
}

int dkim_key_sign(const struct dkim_key *k, const uint8_t hash[32], uint8_t out[static DKIM_SIGNATURE_MAX],
                  size_t *ret_len)
{
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(k->key, NULL);
    size_t len = DKIM_SIGNATURE_MAX;
    bool is_done = c && (k->type == DKIM_RSA ? sign_rsa(c, hash, out, &len) : sign_ed25519(k->key, hash, out, &len));

    EVP_PKEY_CTX_free(c);
    if (!is_done)
        return -ENOMEM;
    *ret_len = len;
    return 0;
}
