/*
 * The header of a message that a local program submits: recipients are taken out of it (-t), blind copies removed,
 * missing fields added, bare names qualified. Pure.
 */
#ifndef SENDMAIL_COMPOSE_H
#define SENDMAIL_COMPOSE_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/base/buf.h"

#define COMPOSE_RECIPIENTS 10000 /* of one message */

struct recipients {
    char **items; /* addresses with a domain, each once */
    size_t count;
};

void recipients_finish(struct recipients *r);

/* Appends every mailbox of an address list ("bob, Alice <alice@example.org>"); bare names get `domain`.
 * 0, -EINVAL: there was none, -E2BIG, -ENOMEM. */
int recipients_add(struct recipients *r, struct str list, struct str domain);

/* The mailbox of an address in any form, with its domain: for -f. Empty for "" and "<>". -EINVAL, -ENOBUFS, -ENOMEM. */
int compose_address(struct str text, struct str domain, struct buf *out);

struct compose {
    struct str sender;    /* of the envelope; "" null */
    struct str full_name; /* UTF-8, or "" */
    struct str domain;    /* for bare names */
    bool is_gateway;      /* add and qualify nothing */
    bool takes_recipients;
};

/* Appends the finished header (without the empty line) to `out` and its recipients (Resent- ones where there are any,
 * RFC 5322 3.6.6) to *r. `header` has LF line ends. 0, -E2BIG, -ENOBUFS, -ENOMEM. */
int compose_header(const struct compose *c, struct str header, struct buf *out, struct recipients *r);

#endif
