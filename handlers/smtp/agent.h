/*
 * The trusted half of SMTP: decides about senders and recipients, owns the message file, starts deliver, queues what
 * goes elsewhere. It believes nothing that the session says: every address is parsed again, every account is looked up
 * for each RCPT, and again before a deliver is started for it (postman.c). One transaction at a time.
 */
#ifndef SMTP_AGENT_H
#define SMTP_AGENT_H

#include <stdbool.h>
#include <sys/types.h>

#include "handlers/smtp/backend.h"
#include "shared/base/conf.h"
#include "shared/queue/queue.h"
#include "shared/route/expand.h"
#include "shared/route/postman.h"

struct agent_recipient {
    char *address; /* Mailbox as accepted */
    struct expansion expansion;
    unsigned notify; /* bits of enum queue_notify */
    char *orcpt;     /* or NULL */
};

struct smtp_agent {
    struct conf *conf; /* borrowed, as are the strings */
    const char *local; /* our address on this connection, "" */
    const char *peer;  /* the client's, "" */
    bool is_root;      /* delivers to everybody; otherwise only to `uid` */
    uid_t uid;
    bool may_relay;    /* to other machines: who is logged in or in `networks` */
    bool tells_truth;  /* VRFY: the peer is trusted */
    bool needs_auth;   /* submission: nothing before `user` is set */
    bool answers_each; /* LMTP: a reply for each recipient */
    const char *user;  /* authenticated, or NULL */
    char *local_user;  /* --local: whose process it is that called us, by the kernel's word; owned */
    uid_t local_uid;
    bool is_trusted; /* that user may send as anybody */

    bool has_sender;
    char id[QUEUE_ID + 1];
    struct buf sender;
    struct buf forwarder;      /* what stands for it when an alias leads to another machine; empty: not made yet */
    struct mail_params params; /* without envid, which is: */
    char *envid;               /* or NULL */
    int64_t by_deadline;       /* of params.by: by_seconds from MAIL on, seconds since 1970 */
    struct agent_recipient *recipients;
    size_t count;
    size_t targets;         /* of all of them */
    int file;               /* of the message, -1: none */
    struct str text;        /* while a message that has no file is delivered: that; borrowed */
    struct queue queue;     /* open once it was needed */
    struct postmen postmen; /* who have brought messages of this connection */
};

void agent_init(struct smtp_agent *a, struct conf *conf, bool is_root, uid_t uid);
void agent_finish(struct smtp_agent *a);

/* The questions of backend.h. -ENOMEM and the like are answered as 4xx; a negative return is a session that asks out of
 * order (-EBADMSG). */
int agent_mail(struct smtp_agent *a, const struct smtp_envelope *envelope, struct smtp_answer *ret);
int agent_rcpt(struct smtp_agent *a, struct str mailbox, const struct rcpt_params *params, struct smtp_answer *ret);
int agent_vrfy(struct smtp_agent *a, struct str mailbox, struct smtp_answer *ret);
int agent_own(struct smtp_agent *a, struct str mailbox, struct smtp_answer *ret);
int agent_expn(struct smtp_agent *a, struct str mailbox, struct smtp_answer *ret, size_t *count);
int agent_etrn(struct smtp_agent *a, struct str node, struct smtp_answer *ret);
int agent_larger(struct smtp_agent *a, struct smtp_answer *ret, int *ret_fd); /* the fd stays the agent's */
int agent_commit(struct smtp_agent *a, const struct smtp_content *content, struct smtp_answer *ret, size_t count);
void agent_reset(struct smtp_agent *a);

/* For whoever needs the message that is being delivered as a file. 0 or a negative errno. */
int agent_need_file(struct smtp_agent *a);

/* Opens a->queue unless it is open. 0 or a negative errno. */
int agent_open_queue(struct smtp_agent *a);

#endif
