/*
 * One local delivery: starts `deliver` with the recipient's uid and waits for its verdict.
 */
#ifndef SMTP_TRANSFER_H
#define SMTP_TRANSFER_H

#include "handlers/smtp/answer.h"
#include "handlers/smtp/rcpt.h"
#include "shared/base/conf.h"

struct transfer {
    struct conf *conf;
    const struct rcpt_target *target;
    const char *sender;  /* "" null path */
    const char *address; /* the recipient as the client named it */
    int file;            /* the message; read from byte 0 with an offset of its own */
    bool is_root;        /* become the user and keep the locks for it; otherwise we are the user already */
};

/* Delivers. The answer is always set: 250 only if the message is durably in the mailbox. */
void transfer_run(const struct transfer *t, struct smtp_answer *ret);

#endif
