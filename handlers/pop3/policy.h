/*
 * What the administrator decides about POP3: how UIDs are spelled, how often one may log in, how long mail stays.
 */
#ifndef POP3_POLICY_H
#define POP3_POLICY_H

#include <stdint.h>

#include "shared/base/conf.h"
#include "shared/mbox/mbox.h"

enum pop3_uidl_form {
    POP3_UIDL_PENNYPOST, /* UIDVALIDITY.UID */
    POP3_UIDL_DOVECOT,   /* %08Xu%08Xv: its default */
    POP3_UIDL_UW,        /* UIDVALIDITY and UID, eight hexadecimal digits each */
};

#define POP3_EXPIRE_NEVER UINT32_MAX

struct pop3_policy {
    enum pop3_uidl_form uidl;
    uint32_t login_delay; /* seconds, 0: none */
    uint32_t expire;      /* days, or POP3_EXPIRE_NEVER */
};

/* Reads it. -EINVAL: a value that means nothing; nobody is served before it is right, since other UIDLs would make
 * every client fetch all mail once more. *ret_key names it. */
int pop3_policy_read(const struct conf *conf, struct pop3_policy *ret, const char **ret_key);

/* Appends the unique-id of a message (RFC 1939 7: 1 to 70 characters from ! to ~). */
int pop3_policy_uidl(const struct pop3_policy *p, uint32_t uidvalidity, uint32_t uid, struct buf *out);

/* May the user log in? With `is_in` the login is noted in the user's state folder. -EBUSY: the last one is less than
 * login_delay seconds ago (and this one does not count); *ret_wait tells how many are left. Another error: it could not
 * be noted. */
int pop3_policy_login(const struct pop3_policy *p, const char *state, struct clock *clock, bool is_in,
                      uint32_t *ret_wait);

/* Is the message to be removed at QUIT though the client did not ask (RFC 2449 6.7)? Only what was read is. */
bool pop3_policy_is_expired(const struct pop3_policy *p, const struct mbox_info *info, bool is_retrieved, int64_t now);

#endif
