/*
 * Local users: whose mailbox a name is, and which domains are ours.
 */
#ifndef ROUTE_RCPT_H
#define ROUTE_RCPT_H

#include <stdbool.h>
#include <sys/types.h>

#include "shared/route/path.h"
#include "shared/base/conf.h"

enum rcpt_kind {
    RCPT_MAILBOX, /* of the user */
    RCPT_COMMAND, /* run as the user */
    RCPT_FILE,    /* appended to as the user */
    RCPT_REMOTE,  /* an address on another machine: nobody here may become anybody for it */
};

/* One place where a message for a recipient goes. */
struct rcpt_target {
    enum rcpt_kind kind;
    char *user;     /* as NSS spells it; "" for RCPT_REMOTE */
    char *home;     /* of the user, "" */
    char *argument; /* command line, path or remote address; for a mailbox the detail behind the delimiter, "" none */
    uid_t uid;
    gid_t gid;
};

/* Frees what a target holds. */
void rcpt_target_finish(struct rcpt_target *t);

/* The target of a remote address. 0 or -ENOMEM. */
int rcpt_remote(struct str address, struct rcpt_target *ret);

/* Is this our domain? `local_address` is this end of the connection: mail to user@[that address] is ours. A path
 * without a domain is ours. */
bool rcpt_is_ours(const struct conf *conf, const struct smtp_path *path, const char *local_address);

/* The user of that name, as written or in lower case. 0, -ENOENT, -EAGAIN (user database not available), -ENOMEM. */
int rcpt_find_user(struct str name, struct rcpt_target *ret);

/* Splits "user+detail" at the first delimiter that is not at the front. False: there is none, and *ret_detail is "". */
bool rcpt_split_detail(const struct conf *conf, struct str local, struct str *ret_name, struct str *ret_detail);

#endif
