/*
 * The reader of SMTP replies (RFC 5321 4.2), a pure push parser: bytes may come in any pieces. It keeps the code, the
 * enhanced code and a bounded text, gives each line to whoever wants them (EHLO), and gives up on whatever is longer
 * than LIMIT_REPLY_LINES or LIMIT_REPLY_LINE, so that an endless reply ends.
 */
#ifndef RELAY_REPLY_H
#define RELAY_REPLY_H

#include "handlers/relay/talk.h"

enum reply_fault {
    REPLY_OK,
    REPLY_NOT_SMTP,   /* a line does not begin with a code, or the code changes */
    REPLY_LINE_LONG,  /* a line without an end */
    REPLY_LINES_MANY, /* more than LIMIT_REPLY_LINES */
};

struct reply_parser {
    /* Is given the text behind the code of every line; may be NULL. */
    void (*line)(void *context, struct str text, unsigned number);
    void *context;

    bool is_done; /* the reply is whole: `reply` is valid. reply_next() begins another one */
    enum reply_fault fault;
    struct talk_reply reply;

    unsigned lines;
    unsigned length; /* of the line so far */
    size_t text_len;
    char held[LIMIT_REPLY_LINE];
};

/* For the first reply of a connection, and for each further one. `line` and `context` stay. */
void reply_next(struct reply_parser *p);

/* Takes bytes up to the end of the reply and tells how many it took; then is_done or fault may be set. A bare LF ends a
 * line too: old servers, and nothing depends on it here. */
size_t reply_feed(struct reply_parser *p, struct str bytes);

/* Words for a fault. */
const char *reply_fault_text(enum reply_fault fault);

#endif
