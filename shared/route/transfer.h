/*
 * One local delivery: starts `deliver` with the recipient's uid and waits for its verdict.
 */
#ifndef ROUTE_TRANSFER_H
#define ROUTE_TRANSFER_H

#include "shared/route/answer.h"
#include "shared/route/rcpt.h"
#include "shared/base/conf.h"
#include "shared/gate/chain.h"

struct transfer {
    struct conf *conf;
    const struct rcpt_target *target; /* not RCPT_REMOTE */
    const char *sender;               /* "" null path */
    const char *address;              /* the recipient as the client named it */
    int file;                         /* the message; read from byte 0 with an offset of its own */
    bool is_again;                    /* an attempt before this one may have succeeded: no second copy */
    bool is_root;                     /* become the user and keep the locks for it; otherwise we are the user already */

    /* While it runs. */
    struct chain_child child; /* behind transfer_end() still set when it is only leaving: transfer_reap() */
    int reply;                /* deliver's fd 1 */
    int64_t deadline;
    int error;
};

/* Starts it; several may run at the same time. Whatever goes wrong is told by transfer_end(). */
void transfer_begin(struct transfer *t);

/* Waits for it. The answer is always set: 250 only if the message is durably in the mailbox. When deliver was killed
 * before it said how a mailbox took the message, it is started once more, and finds what the first one wrote. */
void transfer_end(struct transfer *t, struct smtp_answer *ret);

/* Reaps a child that has said its verdict; `wait`: until it has left, else only if it has. True: it is gone. */
bool transfer_reap(struct chain_child *child, bool wait);

#endif
