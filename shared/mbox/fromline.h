/*
 * The From_ line that separates the messages of an mbox (RFC 4155 and the date variants found in the wild).
 */
#ifndef MBOX_FROMLINE_H
#define MBOX_FROMLINE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/str.h"

#define FROMLINE_MAX 512 /* longest line that is taken for a From_ line; a path is 256 (RFC 5321 4.5.3.1.3) */

struct fromline {
    struct str sender; /* as it stands there; may be empty */
    int64_t date;      /* seconds since 1970 */
    int16_t offset;    /* minutes from UTC, when the line names a zone */
};

/* Is this line (without its line end) a From_ line: "From ", perhaps a sender, and a date? Facts go to *ret. */
bool fromline_parse(struct str line, struct fromline *ret);

/* Appends a From_ line with its LF. Blanks and control characters of the sender are dropped; an empty sender becomes
 * MAILER-DAEMON. */
int fromline_write(struct str sender, int64_t date, struct buf *out);

#endif
