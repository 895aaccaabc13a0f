/*
 * The delivery of one message to all targets of all its recipients. Private to the agent.
 */
#ifndef SMTP_DISPATCH_H
#define SMTP_DISPATCH_H

#include "handlers/smtp/agent.h"
#include "shared/route/transfer.h"

/* One target of one recipient. The jobs of a recipient stand together, in the order of the recipients. */
struct job {
    const struct agent_recipient *recipient;
    const struct rcpt_target *target;
    struct job *same;            /* an earlier job for the same place, or NULL */
    char sender[LIMIT_PATH + 1]; /* "" null path */
    bool waits;                  /* for the queue; nothing was tried and there is no answer */
    bool is_unsure;              /* the answer is a 4xx, and the mailbox may have the message nevertheless */
    bool is_shown;               /* SEND, SOML: the answer is there already, the mailbox gets nothing */
    struct transfer transfer;
    struct smtp_answer answer;
};

/* Delivers a->text, or a->file, to every recipient and fills the answers in: several deliveries run at the same time,
 * and a place that two recipients lead to gets the message once. What goes elsewhere, must wait, or failed for a while
 * although others of the same reply succeeded is queued. `content`: bits of enum smtp_trait. Out of memory is a 451. */
void dispatch_message(struct smtp_agent *a, unsigned content, struct smtp_answer *answers);

/* settle.c: makes answers of what happened, and queues what remains. */
void settle_message(struct smtp_agent *a, unsigned content, struct job *jobs, size_t count,
                    struct smtp_answer *answers);

#endif
