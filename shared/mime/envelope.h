/*
 * IMAP's ENVELOPE (RFC 9051 7.5.2) of a header.
 */
#ifndef MIME_ENVELOPE_H
#define MIME_ENVELOPE_H

#include <stdbool.h>

#include "shared/base/buf.h"
#include "shared/mime/addr.h"
#include "shared/mime/fields.h"

/* Which fields of a header ENVELOPE is made of, for callers that keep only those. */
bool envelope_needs(struct str field_name);

/* Appends "(date subject from sender reply-to to cc bcc in-reply-to message-id)" of a header (its end need not be
 * there). Sender and Reply-To default to From. Well-formed whatever the header holds. is_utf8: as nstring_add().
 * 0, -ENOBUFS, -ENOMEM. */
int envelope_print(struct str header, bool is_utf8, struct buf *out);

/* The same in steps, for callers that want more of a header than that, or go from header to header. */
struct envelope {
    struct header_fields fields;
    struct envelope_addresses {
        struct addr_list list;
        size_t first; /* how many of them the first field of the name gave */
        bool is_parsed;
        bool is_first_parsed; /* of them only the first one is there */
    } addresses[FIELD_BCC - FIELD_FROM + 1];
    struct buf line; /* inside: an unfolded field */
};

/* Empty, with nothing to give back yet; and what it holds given back. */
void envelope_init(struct envelope *e);
void envelope_finish(struct envelope *e);

/* Turns to a header, which has to stay as long as the envelope is used. */
void envelope_read(struct envelope *e, struct str header);
int envelope_add(struct envelope *e, bool is_utf8, struct buf *out); /* as envelope_print() */

/* The first address of the first field of that name, FIELD_FROM to FIELD_BCC; a group's name counts. NULL: there is
 * none. Good until envelope_add() or the next header. 0, -ENOMEM. */
int envelope_first_address(struct envelope *e, enum field_name name, const struct addr **ret);

#endif
