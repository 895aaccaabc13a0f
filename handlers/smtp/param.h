/*
 * The parameters behind MAIL FROM and RCPT TO (RFC 5321 4.1.1.11), one row of a table for each.
 */
#ifndef SMTP_PARAM_H
#define SMTP_PARAM_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/str.h"
#include "shared/queue/envelope.h"
#include "shared/route/answer.h"

#define ENVID_MAX    100                    /* RFC 3461 4.4 */
#define ORCPT_MAX    500                    /* RFC 3461 4.2 */
#define BY_MAX       INT64_C(999999999)     /* RFC 2852 4 */
#define BY_LEAST     60                     /* seconds: what a queue run and a slow next hop may take (RFC 2852 7) */
#define HOLD_MAX     (INT64_C(366) * 86400) /* seconds a message may wait for its release: a year */
#define PRIORITY_MAX 9                      /* RFC 6710 4.1 */

/* How the transaction began (RFC 821 3.4): MAIL goes to the mailbox, SEND to a terminal, SOML to a terminal or else the
 * mailbox, SAML to both. */
enum param_way { WAY_MAIL, WAY_SEND, WAY_SOML, WAY_SAML };

struct mail_params {
    enum param_way way; /* set by the command, not by a parameter */
    uint64_t size;      /* declared, 0: not */
    enum queue_body body;
    enum queue_ret ret;
    bool is_utf8;
    bool requires_tls; /* RFC 8689 2 */
    struct str envid;  /* xtext as sent; views into the command line */
    int32_t priority;  /* RFC 6710 */
    enum queue_by by;  /* RFC 2852 */
    bool by_trace;
    int64_t by_seconds; /* from now */
    int64_t hold_for;   /* RFC 4865: seconds from now, or */
    int64_t hold_until; /* seconds since 1970; 0: neither */
};

struct rcpt_params {
    unsigned notify;  /* bits of enum queue_notify, 0: unset */
    struct str orcpt; /* "rfc822;xtext" as sent */
};

/* Which parameters are known here depends on what EHLO announced. */
enum param_offer {
    OFFER_SIZE = 1u << 0,
    OFFER_8BITMIME = 1u << 1,
    OFFER_BINARYMIME = 1u << 2,
    OFFER_SMTPUTF8 = 1u << 3,
    OFFER_AUTH = 1u << 4,
    OFFER_DSN = 1u << 5,
    OFFER_REQUIRETLS = 1u << 6,
    OFFER_MT_PRIORITY = 1u << 7,
    OFFER_DELIVERBY = 1u << 8,
    OFFER_FUTURERELEASE = 1u << 9,
};

/* Parse `s`, blanks and parameters up to its end. 0, or -EINVAL with the reply in *ret_answer. */
int param_parse_mail(struct str s, unsigned offers, struct mail_params *ret, struct smtp_answer *ret_answer);
int param_parse_rcpt(struct str s, unsigned offers, struct rcpt_params *ret, struct smtp_answer *ret_answer);

/* Are these values that param_parse_mail() and param_parse_rcpt() can give? For who gets them from a stranger's hand.
 */
bool param_mail_is_valid(const struct mail_params *p);
bool param_rcpt_is_valid(const struct rcpt_params *p);

#endif
