/*
 * What a server's EHLO reply offers (RFC 5321 4.1.1.1).
 */
#ifndef RELAY_EHLO_H
#define RELAY_EHLO_H

#include "handlers/relay/talk.h"

enum ehlo_mechanism {
    EHLO_PLAIN = 1u << 0,
    EHLO_LOGIN = 1u << 1,
    EHLO_SCRAM_SHA_256 = 1u << 2,
    EHLO_XOAUTH2 = 1u << 3,
    EHLO_OAUTHBEARER = 1u << 4,
    EHLO_SCRAM_SHA_1 = 1u << 5,
    EHLO_CRAM_MD5 = 1u << 6,
    EHLO_SCRAM_SHA_256_PLUS = 1u << 7,
    EHLO_SCRAM_SHA_1_PLUS = 1u << 8,
};

struct ehlo {
    uint32_t extensions; /* bits of enum talk_extension */
    uint32_t mechanisms; /* bits of enum ehlo_mechanism */
    uint64_t size;       /* largest message, 0: no limit announced */
    uint32_t by_least;   /* seconds that BY=...;R must leave (RFC 2852 2), 0: no minimum announced */
};

/* A line of the reply, without its code; number 0 is the greeting and offers nothing. For reply_parser.line, with a
 * struct ehlo as context. */
void ehlo_line(void *ehlo, struct str text, unsigned number);

#endif
