/*
 * The frames between smtp-session and its monitor, besides the common ones of shared/io/frame_types.h. s = string, u =
 * u32, U = u64, [fd] = with one fd. smtp-session asks, the monitor answers, one question at a time.
 */
#ifndef SMTP_FRAMES_H
#define SMTP_FRAMES_H

#include "handlers/smtp/backend.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"

enum smtp_frame {
    /* session -> monitor, behind every FRAME_LOGIN_START: what else is true? (no fields) */
    FRAME_SMTP_FACTS_WANTED = FRAME_SMTP_FIRST,
    /* monitor -> session: s TLS cipher or "", u the client is on this machine (0/1), u XCLIENT is believed (0/1), u
     * FRAME_SMTP_HELLO is wanted (0/1), u ATRN is offered (0/1), s why the client is turned away at once or "", s local
     * user who called or "", u uid of that user */
    FRAME_SMTP_FACTS,

    /* session -> monitor; each but RESET is answered by FRAME_SMTP_ANSWER. */
    FRAME_SMTP_MAIL,       /* frames_put_envelope() */
    FRAME_SMTP_FIRST_RCPT, /* the fields of MAIL and those of RCPT; a refusal of the sender comes with each RCPT */
    FRAME_SMTP_RCPT,       /* s mailbox, u NOTIFY, s ORCPT */
    FRAME_SMTP_VRFY,       /* s mailbox */
    FRAME_SMTP_OWN,        /* s mailbox */
    FRAME_SMTP_EXPN,       /* s mailbox; first FRAME_SMTP_COUNT, then that many answers */
    FRAME_SMTP_ETRN,       /* s node */
    FRAME_SMTP_ATRN,       /* s domains, separated by commas, or "" */
    FRAME_SMTP_TURN,    /* no fields, no answer, the last frame: ATRN was answered, the connection is the monitor's */
    FRAME_SMTP_LARGER,  /* no fields; a positive answer comes with [fd], an empty file */
    FRAME_SMTP_COMMIT,  /* u recipients, u bits of enum smtp_trait, s the message if no file was asked for; as many
                           answers, in the order of the RCPTs */
    FRAME_SMTP_WHOLE,   /* the fields of FIRST_RCPT, then those of COMMIT but for the first; one answer */
    FRAME_SMTP_RESET,   /* no fields, no answer */
    FRAME_SMTP_QUEUE,   /* no fields; a positive answer comes with [fd], the lines of the list */
    FRAME_SMTP_XCLIENT, /* s address of the client, u port; behind a positive answer comes FRAME_LOGIN_START */

    FRAME_SMTP_HELLO, /* s name of HELO or EHLO; answered by */
    FRAME_SMTP_NAME,  /* s verified name of the client's address or "" */

    FRAME_SMTP_ANSWER, /* u code, s enhanced code, s text */
    FRAME_SMTP_COUNT,  /* u answers that follow, 1 to BACKEND_EXPN */
};

/* The fields of FRAME_SMTP_MAIL: s message id, s sender ("" null path), U declared size, s ENVID, U by-time + BY_MAX,
 * U HOLDFOR, U HOLDUNTIL, then u each: BODY, RET, SMTPUTF8, REQUIRETLS, MT-PRIORITY + PRIORITY_MAX, by-mode, by-trace,
 * way. Reading: 0 with views into the frame, or -EBADMSG, also for values that no MAIL command has. */
int frames_put_envelope(struct frame *f, const struct smtp_envelope *e);
int frames_get_envelope(struct frame_reader *in, struct smtp_envelope *ret);

#endif
