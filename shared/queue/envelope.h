/*
 * The envelope of a queued message: who sent it, where it goes, what became of it so far. A value in memory and its
 * text; the folders are queue.h's business. Pure.
 *
 * The text is one `key value` a line, "%" and control characters as %XX; a key that stands for nothing is left out, an
 * unknown one is skipped (a newer version wrote it):
 *
 *     pennypost-envelope 1
 *     created 1795900000
 *     sender alice@example.org
 *     to bob@example.net
 *     to-state deferred
 *     to-reply 450 4.2.0 Greylisted
 *     end
 *
 * Each "to" begins a recipient; "end" proves that the file is whole.
 */
#ifndef QUEUE_ENVELOPE_H
#define QUEUE_ENVELOPE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"

#define QUEUE_RECIPIENTS   10000       /* of one message: aliases multiply LIMIT_RECIPIENTS */
#define QUEUE_VALUE        8192        /* bytes of one value: a command line of aliases(5), a remote reply */
#define QUEUE_ENVELOPE_MAX (64u << 20) /* bytes of the text: QUEUE_RECIPIENTS with long replies */

enum queue_body { QUEUE_BODY_7BIT, QUEUE_BODY_8BITMIME, QUEUE_BODY_BINARYMIME };

/* RFC 3461 4.3: how much of the message a failure report returns. */
enum queue_ret { QUEUE_RET_UNSET, QUEUE_RET_FULL, QUEUE_RET_HDRS };

/* RFC 2852 4: what happens when the deadline passes. */
enum queue_by { QUEUE_BY_NONE, QUEUE_BY_RETURN, QUEUE_BY_NOTIFY };

/* RFC 3461 4.1; 0: not given, which means failure and delay. */
enum queue_notify {
    QUEUE_NOTIFY_NEVER = 1u << 0,
    QUEUE_NOTIFY_SUCCESS = 1u << 1,
    QUEUE_NOTIFY_FAILURE = 1u << 2,
    QUEUE_NOTIFY_DELAY = 1u << 3,
};

enum queue_kind {
    QUEUE_REMOTE,  /* by its address: another host, or, if the domain is ours, expanded by the run */
    QUEUE_MAILBOX, /* of `user`; the argument is the detail behind the recipient delimiter */
    QUEUE_COMMAND, /* the argument, run as `user` */
    QUEUE_FILE,    /* the argument, appended to as `user` */
};

enum queue_state {
    QUEUE_PENDING,   /* never tried */
    QUEUE_DEFERRED,  /* tried, failed temporarily */
    QUEUE_DELIVERED, /* final: in the mailbox */
    QUEUE_RELAYED,   /* final: the next hop has it */
    QUEUE_FAILED,    /* final */
    QUEUE_EXPANDED,  /* final: became other recipients of this entry or another message */
};

struct queue_recipient {
    char *address; /* Mailbox (RFC 5321 4.1.2) that RCPT names, or what a local target stands for */
    char *sender;  /* instead of the envelope's, as owner- aliases and rewriting want it; NULL: the envelope's */
    enum queue_kind kind;
    char *user, *argument; /* of a local target, as in struct rcpt_target; else NULL */
    unsigned notify;       /* bits of enum queue_notify */
    char *orcpt;           /* "rfc822;xtext" as sent, RFC 3461 4.2; NULL */
    bool is_orcpt_ours;    /* not given by the sender: for the next hop (RFC 3461 5.2.1), not for reports (6.3) */
    bool is_list;          /* a mailing list led here: envid and ret are not for it (RFC 3461 5.2.7.1) */
    enum queue_state state;
    bool is_reported;     /* the report that its state calls for has been queued */
    int64_t next_attempt; /* seconds since 1970; 0: at once */
    int64_t last_attempt; /* 0: never */
    char *reply;          /* the last one, "450 4.2.0 text"; NULL */
    char *host;           /* that said it; NULL: ourselves */
};

struct queue_envelope {
    int64_t created;      /* seconds since 1970 */
    char *sender;         /* "" null path */
    char *user;           /* authenticated submitter; NULL */
    char *peer;           /* address it came from; NULL: made here */
    enum queue_body body; /* of the message as it is stored */
    bool is_utf8;         /* SMTPUTF8 (RFC 6531): addresses or header need it */
    enum queue_ret ret;
    char *envid;         /* xtext as sent, RFC 3461 4.4; NULL */
    bool requires_tls;   /* REQUIRETLS, RFC 8689 2 */
    bool tls_optional;   /* "TLS-Required: no", RFC 8689 5 */
    int32_t priority;    /* MT-PRIORITY, RFC 6710: -9 to 9 */
    enum queue_by by;    /* DELIVERBY, RFC 2852 */
    bool by_trace;       /* its "T" */
    int64_t by_deadline; /* seconds since 1970 */
    int64_t hold_until;  /* FUTURERELEASE, RFC 4865; 0: no */
    bool is_held;        /* by the admin */
    bool is_delay_warned;
    bool is_by_told;      /* that the deadline of QUEUE_BY_NOTIFY has passed */
    int64_t next_attempt; /* of the earliest recipient */
    uint32_t attempts;
    struct queue_recipient *recipients;
    size_t count;
};

#define QUEUE_ENVELOPE_INIT      ((struct queue_envelope){0})
#define _cleanup_queue_envelope_ _cleanup_(queue_envelope_finish)

/* Frees what an envelope holds. */
void queue_envelope_finish(struct queue_envelope *e);

/* Replaces an owned string of the two structures above. -EINVAL over QUEUE_VALUE or with a NUL, -ENOMEM. */
int queue_envelope_set(char **field, struct str value);

/* Adds a recipient, remote and pending, and gives it to be filled in; the pointer is good until the next call. -E2BIG
 * over QUEUE_RECIPIENTS, -EINVAL, -ENOMEM. */
int queue_envelope_add(struct queue_envelope *e, struct str address, struct queue_recipient **ret);

/* Has its deadline (RFC 2852) passed? With QUEUE_BY_RETURN nothing of it may be tried any more; with QUEUE_BY_NOTIFY
 * its sender is to be told once that it is late. */
bool queue_envelope_is_late(const struct queue_envelope *e, int64_t now);

/* Is there nothing left to do for it? */
bool queue_recipient_is_done(const struct queue_recipient *r);
bool queue_envelope_is_done(const struct queue_envelope *e);

/* The sender of what goes to that recipient, "" null path. */
const char *queue_recipient_sender(const struct queue_envelope *e, const struct queue_recipient *r);

/* Appends the text. 0, -ENOBUFS, -ENOMEM. */
int queue_envelope_format(const struct queue_envelope *e, struct buf *out);

/* Reads the text; *ret must be fresh and is left so on failure. -EBADMSG: damaged. -EPROTONOSUPPORT: another version
 * wrote it. -ENOMEM. */
int queue_envelope_parse(struct str text, struct queue_envelope *ret);

#endif
