/*
 * Local part resolution: which Unix user a mailbox address belongs to.
 */
#ifndef SMTP_RCPT_H
#define SMTP_RCPT_H

#include <sys/types.h>

#include "handlers/smtp/answer.h"
#include "handlers/smtp/path.h"
#include "shared/base/conf.h"

struct rcpt_target {
    char *user;   /* as NSS spells it */
    char *detail; /* behind the recipient delimiter, "" none */
    uid_t uid;
    gid_t gid;
};

void rcpt_target_finish(struct rcpt_target *t);

/* Finds the user of a parsed path. `local_address` is this end of the connection: mail to user@[that address] is ours.
 * 0, or a negative errno with the refusal in *ret_answer: -EREMOTE not our domain, -ENOENT no such user, -EAGAIN user
 * data base not available, -ENOMEM. */
int rcpt_resolve(const struct conf *conf, const struct smtp_path *path, const char *local_address,
                 struct rcpt_target *ret, struct smtp_answer *ret_answer);

#endif
