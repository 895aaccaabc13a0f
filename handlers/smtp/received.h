/*
 * The trace field that every message gets on top (RFC 5321 4.4): one clause for each thing we know.
 */
#ifndef SMTP_RECEIVED_H
#define SMTP_RECEIVED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/base/buf.h"
#include "shared/base/clock.h"

struct received {
    struct str helo; /* as the client said it */
    struct str name; /* verified name of the client, or "" */
    struct str peer; /* address of the client, or "" for a local program */
    struct str by;   /* our name */
    struct str id;
    struct str recipient; /* the only one, or "" when there are several (RFC 5321 4.4: no disclosure) */
    struct str cipher;    /* of TLS, or "" */
    uid_t uid;            /* of the local program, when peer is "" */
    int64_t when;
    bool is_esmtp;
    bool is_tls;
    bool is_authenticated;
    int32_t priority; /* RFC 6710 7; 0: not told */
    bool is_utf8;     /* the envelope used SMTPUTF8 (RFC 6531 3.7.3) */
    bool is_lmtp;
    bool is_local; /* a program of this machine through sendmail(8): no "from", no "with" */
};

/* Appends the field with LF line ends. 0, -ENOBUFS, -ENOMEM. */
int received_format(const struct received *r, const struct clock *clock, struct buf *out);

#endif
