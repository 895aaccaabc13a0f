/*
 * What stands behind the dialogue: smtp-session asks for a sender, recipients, a file and a delivery, and gets answers.
 * Under a monitor the questions travel as frames (remote.c) to the trusted half (agent.c), because the session is
 * sandboxed and believed in nothing; on a pipe the same agent runs in the process (local.c).
 */
#ifndef SMTP_BACKEND_H
#define SMTP_BACKEND_H

#include <stdint.h>

#include "handlers/smtp/param.h"
#include "shared/base/buf.h"
#include "shared/base/limits.h"
#include "shared/route/answer.h"

struct smtp_envelope {
    struct str id;     /* of the message, for logs and the queue */
    struct str sender; /* Mailbox as written, "" for the null path */
    struct mail_params params;
};

/* What showed while the message came in. */
enum smtp_trait {
    CONTENT_8BIT = 1u << 0,         /* octets above 127 */
    CONTENT_TLS_OPTIONAL = 1u << 1, /* "TLS-Required: no" (RFC 8689 5) */
};

struct smtp_content {
    unsigned traits; /* bits of enum smtp_trait */
    struct str text; /* all of it, if no file was asked for; borrowed */
};

#define BACKEND_EXPN 100 /* most lines of an EXPN reply */

struct smtp_backend {
    void *context;
    /* Each returns 0 with an answer, positive or not, or a negative errno: the backend is gone, end the session. */
    int (*mail)(void *context, const struct smtp_envelope *envelope, struct smtp_answer *ret);
    int (*rcpt)(void *context, struct str mailbox, const struct rcpt_params *params, struct smtp_answer *ret);
    int (*vrfy)(void *context, struct str mailbox, struct smtp_answer *ret);
    /* Is that an address of the user who is logged in? A positive answer: it is. NULL: nobody is. */
    int (*own)(void *context, struct str mailbox, struct smtp_answer *ret);
    /* EXPN: at most *count answers, which all have the same code; *count becomes how many there are. */
    int (*expn)(void *context, struct str mailbox, struct smtp_answer *ret, size_t *count);
    /* ETRN (RFC 1985): send what waits for that node. */
    int (*etrn)(void *context, struct str node, struct smtp_answer *ret);
    /* ATRN (RFC 2645): mail for these domains, separated by commas, or for all of the user's. After a positive answer
     * turn() gives the connection to those who send it. NULL: not here. */
    int (*atrn)(void *context, struct str domains, struct smtp_answer *ret);
    int (*turn)(void *context);
    /* An empty file for a message of more than INTAKE_BUFFER bytes, when the answer is positive; the caller closes it.
     */
    int (*larger)(void *context, struct smtp_answer *ret, int *ret_fd);
    /* The message is complete: deliver. One answer for each recipient that was accepted, in order; the
     * array has room for `count`. Except in LMTP they are all the same. The transaction is over. */
    int (*commit)(void *context, const struct smtp_content *content, struct smtp_answer *ret, size_t count);
    /* The client says for whom it speaks (XCLIENT). */
    int (*xclient)(void *context, struct str address, uint16_t port, struct smtp_answer *ret);
    /* The client said HELO or EHLO; *ret_name becomes the verified name of its address, or "". NULL: nobody asks. */
    int (*hello)(void *context, struct str name, char ret_name[static LIMIT_DOMAIN + 1]);
    /* The queue as the local user may see it: lines in a file, when the answer is positive; the caller closes it. */
    int (*queue)(void *context, struct smtp_answer *ret, int *ret_fd);
    /* Forgets the transaction. */
    int (*reset)(void *context);
};

#endif
