/*
 * DKIM signatures (RFC 6376; Ed25519: RFC 8463): keys, their DNS records, and the field. Signing is relaxed/relaxed;
 * the whole body is signed (no l=), and From, Subject and others once more than they are there, so that none can be
 * added.
 */
#ifndef CRYPTO_DKIM_H
#define CRYPTO_DKIM_H

#include <stdint.h>

#include "shared/base/buf.h"

#define DKIM_KEY_MAX   (16u << 10) /* bytes of a key file */
#define DKIM_FIELD_MAX (64u << 10) /* of one signature field: LIMIT_LINE fields signed, a 4096-bit signature */

enum dkim_type {
    DKIM_RSA,     /* rsa-sha256 */
    DKIM_ED25519, /* ed25519-sha256 */
};

struct dkim_key; /* a private key */

/* A key from PEM (PKCS #8 or traditional). -EBADMSG: none, or of another type. -EKEYREJECTED: RSA below 1024 bits,
 * which RFC 8301 3.2 forbids. -ENOMEM. */
int dkim_key_parse(struct str pem, struct dkim_key **ret);
void dkim_key_free(struct dkim_key *k); /* NULL is fine */
enum dkim_type dkim_key_type(const struct dkim_key *k);

/* A new key as PEM (PKCS #8) behind what `out` has; `bits` of RSA. 0, -ENOMEM, -ENOBUFS. */
int dkim_key_make(enum dkim_type type, unsigned bits, struct buf *out);

/* The text of its DNS record (RFC 6376 3.6.1): "v=DKIM1; k=rsa; p=...". */
int dkim_key_record(const struct dkim_key *k, struct buf *out);

/* The hash of a body. */
struct dkim_body;

int dkim_body_new(struct dkim_body **ret);                    /* -ENOMEM */
int dkim_body_feed(struct dkim_body *b, struct str bytes);    /* any pieces, LF or CRLF */
int dkim_body_end(struct dkim_body *b, uint8_t ret_hash[32]); /* once */
void dkim_body_free(struct dkim_body *b);

struct dkim_wish {
    struct str domain; /* d= */
    struct str selector;
    int64_t when; /* t= */
};

/* Appends the DKIM-Signature field, with LF line ends, for a header (LF or CRLF; without the field itself) and the hash
 * of its body. 0, -EBADMSG: no From, -ENOBUFS, -ENOMEM. */
int dkim_sign(const struct dkim_wish *w, const struct dkim_key *k, struct str header, const uint8_t body_hash[32],
              struct buf *out);

#endif
