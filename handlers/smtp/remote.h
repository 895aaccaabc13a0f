/*
 * The backend of a sandboxed session: every question goes to the monitor as a frame.
 */
#ifndef SMTP_REMOTE_H
#define SMTP_REMOTE_H

#include <stdbool.h>

#include "handlers/smtp/backend.h"
#include "shared/base/limits.h"
#include "shared/io/frame.h"

/* Every question is two processes that wait for each other, so those whose answer is hardly in doubt wait for the next
 * one: MAIL for the first RCPT, and the first RCPT, if the monitor took mail for the same mailbox a moment ago in this
 * session, for the message. What the monitor refuses then is refused at the end of the data. */
struct remote {
    int control;             /* borrowed */
    bool is_quick;           /* MAIL is hardly ever refused here */
    bool is_policed;         /* a policy may judge each envelope: nothing but MAIL waits */
    bool is_promised;        /* `first` is of a recipient for whom the client was told 250 */
    struct frame first;      /* FRAME_SMTP_FIRST_RCPT as far as it is known; type 0: the monitor was told */
    struct buf known;        /* the mailbox that the monitor took last as the first of a message; "" none */
    int64_t known_until;     /* clock_monotonic_ms() */
    struct smtp_answer lost; /* why the monitor would not have the one who was promised; code 0: none such */
};

#define REMOTE_INIT(sock, quick)                                                                                       \
    ((struct remote){.control = (sock), .is_quick = (quick), .first = FRAME_INIT, .known = BUF_INIT(LIMIT_PATH)})
void remote_finish(struct remote *r);

struct smtp_backend remote_backend(struct remote *r);

struct remote_facts {
    char cipher[64]; /* "" in the clear */
    bool is_near;    /* the client is on this machine */
    bool can_xclient;
    bool wants_hello;
    bool has_atrn;
    char unwelcome[LIMIT_NOTE];      /* why the client is turned away, "" */
    char local_user[LIMIT_USER + 1]; /* who called, on a unix socket; "" */
    uint32_t local_uid;
};

/* FRAME_SMTP_FACTS_WANTED and its answer: who the client is may have changed. 0 or a negative errno. */
int remote_facts(struct remote *r, struct remote_facts *ret);

#endif
