/*
 * FETCH: what a client can ask of a message, and the response for one message (RFC 9051 6.4.5, 7.5.2).
 */
#ifndef IMAP_FETCH_H
#define IMAP_FETCH_H

#include "handlers/imap/message.h"
#include "handlers/imap/partial.h"
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
    FETCH_BINARY, /* RFC 3516 */
    FETCH_BINARY_SIZE,
    FETCH_MODSEQ,   /* RFC 7162 */
    FETCH_SAVEDATE, /* RFC 8514 */
    FETCH_EMAILID,  /* RFC 8474 */
    FETCH_THREADID,
    FETCH_PREVIEW, /* RFC 8970 */
};

struct fetch_item {
    enum fetch_kind kind;
    struct section section;
    bool is_lazy; /* PREVIEW (LAZY) */
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
    bool has_modseq;
    bool has_changed_since;
    uint64_t changed_since; /* only messages with a higher MODSEQ */
    bool wants_vanished;
    struct partial partial; /* of the messages named, only these */
    int error;              /* why something could not be told, -ESTALE: the message was gone; 0 */
    bool is_unparsed;       /* the structure of this message could not be told right: [PARSE] */
    bool is_unknown_cte;    /* BINARY met an encoding that it cannot undo: tagged NO [UNKNOWN-CTE] */
    struct message message;
};

/* Parses the items and macros of a FETCH; then its modifiers (RFC 7162 3.1.4.1). */
int fetch_parse(struct fetch *f);
int fetch_parse_modifiers(struct fetch *f);

/* Does CHANGEDSINCE let this one pass (RFC 7162 3.1.4.1)? */
bool fetch_is_wanted(const struct fetch *f, const struct mbox_info *info);

/* Writes the response for one message; with `add_flags` its FLAGS even if they were not asked for. 0, or -ECONNABORTED
 * when the message vanished in the middle of a literal. */
int fetch_respond(struct fetch *f, uint32_t seq, bool add_flags);

/* Remembers why something cannot be told. That a message is gone is said only if there was nothing worse: whoever
 * believes it forgets the message. */
void fetch_lacks(struct fetch *f, int error);

/* fetch_binary.c: the value of a BINARY or BINARY.SIZE item, PREVIEW's value. */
int fetch_binary(struct fetch *f, const struct section *section);
int fetch_binary_size(struct fetch *f, const struct section *section);
int fetch_preview(struct fetch *f, bool is_lazy);

#endif
