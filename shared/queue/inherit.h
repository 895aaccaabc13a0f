/*
 * What of a sender's wishes (DSN) goes on from a recipient to the places that it led to: RFC 3461 5.2.7. Pure.
 */
#ifndef QUEUE_INHERIT_H
#define QUEUE_INHERIT_H

#include "shared/queue/envelope.h"

/* The recipient that was expanded. */
struct queue_origin {
    const char *address;
    unsigned notify;    /* as struct queue_recipient has it */
    const char *orcpt;  /* NULL: there is none */
    bool is_orcpt_ours; /* the sender did not give it */
    size_t places;      /* that it led to */
    bool is_list;       /* a mailing list, whose members get nothing of them */
};

/* Sets notify, orcpt, is_orcpt_ours and is_list of one of the places, whose address is set. 0, -EINVAL, -ENOMEM. */
int queue_inherit(struct queue_recipient *to, const struct queue_origin *from);

/* Is the recipient itself to be reported on when it has been expanded, and as what? A list is where the message was
 * going; of an alias with one place the place tells. */
bool queue_origin_is_told(const struct queue_origin *from, enum queue_state *ret);

#endif
