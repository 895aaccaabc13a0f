/*
 * Parsers of SASL client messages, decoded from base64. They know nothing of users and never allocate: the views point
 * into the message. All: 0 or -EBADMSG. Fuzzed by tests/fuzz/fuzz_sasl.c.
 */
#ifndef AUTH_SASL_H
#define AUTH_SASL_H

#include <stdbool.h>

#include "shared/base/buf.h"
#include "shared/base/str.h"

struct sasl_plain {
    struct str authzid; /* may be empty */
    struct str authcid;
    struct str password;
};

/* RFC 4616 2: [authzid] NUL authcid NUL passwd. */
int sasl_parse_plain(struct str message, struct sasl_plain *ret);

struct sasl_digest {
    struct str user;
    struct str hex; /* 32 lower case hexadecimal digits */
};

/* "user digest" of CRAM-MD5 (RFC 2195 2) and APOP (RFC 1939 7). */
int sasl_parse_digest(struct str message, struct sasl_digest *ret);

struct sasl_oauth {
    struct str user; /* may be empty in OAUTHBEARER */
    struct str token;
};

/* OAUTHBEARER's first message (RFC 7628 3.1): gs2-header ^A key=value ^A ... ^A ^A, with auth=Bearer. `user` may hold
 * "=2C" and "=3D". */
int sasl_parse_oauthbearer(struct str message, struct sasl_oauth *ret);

/* XOAUTH2: user=NAME ^A auth=Bearer TOKEN ^A ^A (Google's description; older than RFC 7628). */
int sasl_parse_xoauth2(struct str message, struct sasl_oauth *ret);

struct sasl_scram_first {
    struct str header;  /* gs2-header with its last comma: what the final message must repeat */
    char binding;       /* 'n', 'y' or 'p' */
    struct str cb_name; /* with 'p' */
    struct str authzid; /* may be empty */
    struct str bare;    /* client-first-message-bare */
    struct str user;    /* may hold "=2C" and "=3D" */
    struct str nonce;
};

/* client-first-message (RFC 5802 7). A mandatory extension ("m=") is refused, as the RFC demands. */
int sasl_parse_scram_first(struct str message, struct sasl_scram_first *ret);

struct sasl_scram_final {
    struct str binding; /* base64 */
    struct str nonce;
    struct str proof;         /* base64 */
    struct str without_proof; /* client-final-message-without-proof */
};

/* client-final-message (RFC 5802 7). */
int sasl_parse_scram_final(struct str message, struct sasl_scram_final *ret);

/* Appends a saslname (RFC 5802 5.1) with "=2C" and "=3D" replaced. -EBADMSG on any other "=", -ENOBUFS. */
int sasl_unescape(struct str name, struct buf *out);

#endif
