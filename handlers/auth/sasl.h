/*
 * Parsers of SASL client messages, decoded from base64. They know nothing of users and never allocate: the views point
 * into the message. All: 0 or -EBADMSG. Fuzzed by tests/fuzz/fuzz_sasl.c.
 */
#ifndef AUTH_SASL_H
#define AUTH_SASL_H

#include <stdbool.h>

#include "shared/base/str.h"

struct sasl_plain {
    struct str authzid; /* may be empty */
    struct str authcid;
    struct str password;
};

/* RFC 4616 2: [authzid] NUL authcid NUL passwd. */
int sasl_parse_plain(struct str message, struct sasl_plain *ret);

#endif
