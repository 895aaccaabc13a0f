/*
 * FETCH: what a client can ask of a message, and the response for one message (RFC 9051 6.4.5, 7.5.2).
 */
#ifndef IMAP_FETCH_H
#define IMAP_FETCH_H

#include "handlers/imap/message.h"
#include "handlers/imap/section.h"

enum fetch_kind {
    FETCH_FLAGS,
    FETCH_UID,
    FETCH_INTERNALDATE,
    FETCH_SIZE,
    FETCH_ENVELOPE,
    FETCH_BODY,
    FETCH_BODYSTRUCTURE,
    FETCH_SECTION, /* BODY[...], BODY.PEEK[...] */
    FETCH_RFC822,  /* the three forms of RFC 3501 for BODY[], BODY.PEEK[HEADER], BODY[TEXT] */
    FETCH_RFC822_HEADER,
    FETCH_RFC822_TEXT,
};

struct fetch_item {
    enum fetch_kind kind;
    struct section section;
};

#define FETCH_ITEMS 256u /* of one FETCH */

struct fetch {
    struct imap *s;
    struct fetch_item *items;
    size_t count;
    size_t cap;
    bool sets_seen;     /* an item without PEEK */
    bool needs_content; /* an item that reads the message */
    bool has_uid;       /* asked for; UID FETCH always has it */
    bool has_flags;
    bool is_missing; /* a message was gone: tagged NO [EXPUNGEISSUED] */
    struct message message;
};

/* Parses the items and macros of a FETCH. */
int fetch_parse(struct fetch *f);

/* Writes the response for one message; with `add_flags` its FLAGS even if they were not asked for. 0, or -ECONNABORTED
 * when the message vanished in the middle of a literal. */
int fetch_respond(struct fetch *f, uint32_t seq, bool add_flags);

#endif
