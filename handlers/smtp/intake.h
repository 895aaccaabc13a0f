/*
 * Writes a message into its file while it comes in: trace field on top, header watched, missing fields added for a
 * submission, size limited. The first error stays; the caller goes on reading and drops the rest.
 */
#ifndef SMTP_INTAKE_H
#define SMTP_INTAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "handlers/smtp/header.h"
#include "shared/base/buf.h"

#define INTAKE_BUFFER (64u << 10)

struct intake {
    int fd;         /* borrowed */
    bool is_binary; /* the file gets the octets of the wire: CRLF also where lines come with LF (struct data_reader) */
    struct buf out; /* not yet written */
    struct header_watch header;
    bool adds_fields;   /* submission (RFC 6409 8): Date and Message-ID where they are missing */
    struct buf missing; /* both as they would be added: "Date: ...\n" and "Message-ID: ...\n" */
    struct buf missing_id;
};

void intake_init(struct intake *i, int fd);
void intake_finish(struct intake *i);

/* Writes text of our own in front (the trace field). 0 or a negative errno. */
int intake_prepend(struct intake *i, struct str text);

/* Takes the next piece of the message, LF line ends. Fit for data_reader.write. */
int intake_write(void *intake, struct str bytes);

/* The message is complete: writes what is left. 0 or a negative errno (-ENOSPC, -EDQUOT, -EFBIG, -EIO). -ELOOP: more
 * trace fields than LIMIT_RECEIVED. -EBADMSG: a submission whose header cannot be completed, or a binary message
 * without a proper one. */
int intake_end(struct intake *i);

#endif
