/*
 * One local delivery: gives the message to a postman of the recipient, or to the recipient's command, and waits for the
 * verdict.
 */
#ifndef ROUTE_TRANSFER_H
#define ROUTE_TRANSFER_H

#include "shared/route/answer.h"
#include "shared/route/postman.h"
#include "shared/route/rcpt.h"

struct transfer {
    struct postmen *postmen;
    const struct rcpt_target *target; /* not RCPT_REMOTE */
    struct postman_letter letter;

    /* While it runs. */
    struct postman *postman;  /* or */
    struct chain_child child; /* who runs a command, and */
    int reply;                /* his fd 1 */
    int64_t deadline;
    int error;

    bool is_unsure; /* afterwards: nobody knows whether the mailbox has it, or will have it yet */
};

/* Starts it; LIMIT_POSTMEN may run at the same time. Whatever goes wrong is told by transfer_end(). */
void transfer_begin(struct transfer *t);

/* Waits for it. The answer is always set: 250 only if the message is durably in the mailbox. When deliver was killed
 * before it said how a mailbox took the message, it is started once more, and finds what the first one wrote. When that
 * was killed too, or hangs, the answer is a temporary failure, and t->is_unsure: who tries again must look first. */
void transfer_end(struct transfer *t, struct smtp_answer *ret);

#endif
