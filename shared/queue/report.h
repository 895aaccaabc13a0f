/*
 * Delivery status notifications: the messages that tell a sender what became of his (RFC 3461, 3464, 6522, 6533). A
 * report has three parts: plain language, the same for programs, and the message or its header. It comes from the null
 * path, says that a machine wrote it (RFC 3834), and travels through the queue like any message.
 */
#ifndef QUEUE_REPORT_H
#define QUEUE_REPORT_H

#include "shared/queue/queue.h"

#define REPORT_RECIPIENTS 500          /* told in one report; more of them make more reports */
#define REPORT_FULL       (256u << 10) /* bytes up to which a failed message comes back whole, if RET is not given */
#define REPORT_FULL_MAX   (4u << 20)   /* and if he said RET=FULL (RFC 3461 6.2 lets us limit it) */
#define REPORT_HEADER     (64u << 10)  /* bytes of a header that comes back */

struct report_counts {
    unsigned queued;  /* reports that were made */
    unsigned dropped; /* recipients that nobody can be told about: the failure of a report to postmaster. Log it. */
};

/* Makes the reports that the final states of an entry call for and queues them, durably: FAILED, unless NOTIFY forbids
 * it; DELIVERED, RELAYED and EXPANDED if NOTIFY asks for SUCCESS. Whoever relays marks a RELAYED recipient is_reported
 * himself when the next hop has taken the request over (RFC 3461 5.2.1), and sets the bit of SUCCESS where RFC 2852
 * 4.1.4 wants a report that nobody asked for. A report goes to the sender, or, when a message with the null path
 * failed, to postmaster, and never further. Every final recipient is marked is_reported in t->envelope, which the
 * caller writes back: a crash before that repeats a report and loses none. 0, or a negative errno with those marked
 * that were told. */
int queue_report(struct queue *q, struct clock *clock, const char *hostname, struct queue_entry *t,
                 struct report_counts *ret);

/* The warning that a message is late (RFC 3461 4.1 DELAY), for recipients that are DEFERRED or PENDING and did not
 * forbid it; `until`: when we give up, seconds since 1970. Behind the deadline of QUEUE_BY_NOTIFY it says so (RFC 2852
 * 4.1.3). Marks nothing: the caller sets is_delay_warned and is_by_told. */
int queue_report_delay(struct queue *q, struct clock *clock, const char *hostname, const struct queue_entry *t,
                       int64_t until, struct report_counts *ret);

/* ---- private to report.c and report_text.c ---- */

enum report_action { REPORT_FAILED, REPORT_DELAYED, REPORT_SUCCESS };

struct report {
    const char *hostname;
    struct clock *clock;
    const struct queue_entry *entry;
    const char *to; /* who reads it */
    enum report_action action;
    const struct queue_recipient *recipients[REPORT_RECIPIENTS];
    size_t count;
    int64_t until;      /* of REPORT_DELAYED */
    bool is_postmaster; /* it tells of a report that could not be delivered */
    bool is_list;       /* it tells of what a mailing list sent out */
    bool is_utf8;       /* some address is not ASCII */
    char subject[128];  /* of the message, if it is plain ASCII; or "" */
};

/* The first part: appends lines of text. 0, -ENOBUFS, -ENOMEM. */
int report_text(const struct report *r, struct buf *out);

/* "failed", "delayed", "delivered", "relayed", "expanded" (RFC 3464 2.3.3). */
const char *report_action_name(const struct report *r, const struct queue_recipient *q);

/* The status of RFC 3463 for that recipient. */
void report_status(const struct report *r, const struct queue_recipient *q, char out[static 16]);

#endif
