/*
 * The parameters behind MAIL FROM and RCPT TO (RFC 5321 4.1.1.11), one row of a table for each.
 */
#ifndef SMTP_PARAM_H
#define SMTP_PARAM_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/route/answer.h"
#include "shared/base/str.h"

enum param_body { BODY_7BIT, BODY_8BITMIME, BODY_BINARYMIME };
enum param_ret { RET_UNSET, RET_FULL, RET_HDRS };

enum param_notify {
    NOTIFY_NEVER = 1u << 0,
    NOTIFY_SUCCESS = 1u << 1,
    NOTIFY_FAILURE = 1u << 2,
    NOTIFY_DELAY = 1u << 3,
};

#define ENVID_MAX 100 /* RFC 3461 4.4 */
#define ORCPT_MAX 500 /* RFC 3461 4.2 */

struct mail_params {
    uint64_t size; /* declared, 0: not */
    enum param_body body;
    enum param_ret ret;
    bool is_utf8;
    struct str envid; /* xtext as sent; views into the command line */
};

struct rcpt_params {
    unsigned notify;  /* bits of enum param_notify, 0: unset */
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
};

/* Parse `s`, blanks and parameters up to its end. 0, or -EINVAL with the reply in *ret_answer. */
int param_parse_mail(struct str s, unsigned offers, struct mail_params *ret, struct smtp_answer *ret_answer);
int param_parse_rcpt(struct str s, unsigned offers, struct rcpt_params *ret, struct smtp_answer *ret_answer);

/* Is `s` xtext (RFC 3461 4)? */
bool param_is_xtext(struct str s);

#endif
