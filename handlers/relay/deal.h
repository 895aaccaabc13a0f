/*
 * One mail transaction (RFC 5321 3.3): MAIL, RCPTs, the message, and what became of each recipient.
 */
#ifndef RELAY_DEAL_H
#define RELAY_DEAL_H

#include "handlers/relay/wire.h"

/* A recipient, its strings owned by the deal. */
struct deal_rcpt {
    char *address;
    char *orcpt;
    uint32_t notify;
    struct talk_reply reply; /* the result */
    bool is_open;            /* accepted, and nothing has been said of the message yet */
};

struct deal {
    struct talk_mail mail; /* views into `text` */
    struct buf text;
    int64_t by_at; /* clock_monotonic_ms() by which it is to be delivered, if mail.by says so */
    int message;
    struct deal_rcpt *rcpts;
    uint32_t count; /* taken so far, mail.count in the end */
    bool is_converted;
};
#define _cleanup_deal_ _cleanup_(deal_finish)

/* Copies what a frame says; `message` is taken over. 0, -ENOMEM. */
int deal_begin(struct deal *d, const struct talk_mail *mail, int message);
int deal_add(struct deal *d, const struct talk_rcpt *rcpt);
void deal_finish(struct deal *d);

/* Runs it: every recipient has its reply afterwards, whatever happens. */
void deal_run(struct deal *d, struct wire *w);

#endif
