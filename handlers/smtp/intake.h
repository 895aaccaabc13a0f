/*
 * Gathers a message while it comes in, in memory or its file: trace field on top, header watched, missing fields added
 * for a submission, size limited. The first error stays; the caller goes on reading and drops the rest.
 */
#ifndef SMTP_INTAKE_H
#define SMTP_INTAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "handlers/smtp/header.h"
#include "shared/base/buf.h"
#include "shared/base/limits.h"

#define INTAKE_BUFFER (LIMIT_FRAME - 1024) /* what is no larger needs no file: it fits in a frame */
#define INTAKE_FIELDS 2048                 /* of fields that the judge adds */

struct intake {
    int fd; /* -1: there is no more than INTAKE_BUFFER yet */
    /* Gives a file for more: 0 or a negative errno. */
    int (*enlarge)(void *context, int *ret_fd);
    bool is_binary; /* the file gets the octets of the wire: CRLF also where lines come with LF (struct data_reader) */
    struct buf out; /* not yet written; without a file all of it */
    struct header_watch header;
    bool adds_fields;   /* submission (RFC 6409 8): Date and Message-ID where they are missing */
    struct buf missing; /* both as they would be added: "Date: ...\n" and "Message-ID: ...\n" */
    struct buf missing_id;
    /* Judges who the message says it is from, once all of its header is there: 0 with the fields that are to be added,
     * or the negative errno that ends it. NULL: nobody does. */
    int (*judge)(void *context, const struct header_watch *header, struct buf *add);
    void *context; /* of both */
};

void intake_init(struct intake *i);
void intake_finish(struct intake *i);

/* Writes text of our own in front (the trace field). 0 or a negative errno. */
int intake_prepend(struct intake *i, struct str text);

/* Takes the next piece of the message, LF line ends. Fit for data_reader.write. */
int intake_write(void *intake, struct str bytes);

/* The message is complete: writes what is left, if there is a file. 0 or a negative errno (-ENOSPC, -EDQUOT, -EFBIG,
 * -EIO). -ELOOP: more trace fields than LIMIT_RECEIVED. -EBADMSG: a submission whose header cannot be completed, or a
 * binary message without a proper one. What the judge says. */
int intake_end(struct intake *i);

#endif
