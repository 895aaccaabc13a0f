/*
 * IMAP's ENVELOPE (RFC 9051 7.5.2) of a header.
 */
#ifndef MIME_ENVELOPE_H
#define MIME_ENVELOPE_H

#include <stdbool.h>

#include "shared/base/buf.h"

/* Which fields of a header ENVELOPE is made of, for callers that keep only those. */
bool envelope_needs(struct str field_name);

/* Appends "(date subject from sender reply-to to cc bcc in-reply-to message-id)" of a header (its end need not be
 * there). Sender and Reply-To default to From. Well-formed whatever the header holds. is_utf8: as nstring_add().
 * 0, -ENOBUFS, -ENOMEM. */
int envelope_print(struct str header, bool is_utf8, struct buf *out);

#endif
