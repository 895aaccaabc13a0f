/*
 * One message at a time, with what was already worked out about it: facts, header, MIME tree. Used by FETCH, SEARCH,
 * SORT and THREAD; a `struct message` is reused for message after message and keeps its memory. Holds one header and
 * one tree in memory, never a body. What costs a look at the message is kept in the store's cache.
 */
#ifndef IMAP_MESSAGE_H
#define IMAP_MESSAGE_H

#include "handlers/imap/imap.h"
#include "shared/mime/envelope.h"
#include "shared/mime/header.h"
#include "shared/mime/structure.h"

struct message {
    struct imap *s;
    uint32_t seq;
    struct mbox_info info;
    struct mbox_stream *stream; /* opened when bytes are wanted */
    uint64_t position;          /* of the stream */
    struct mime_parser *parser;
    struct mime_tree tree;
    bool has_tree;
    struct header_collector header;
    bool has_header;
    struct envelope envelope; /* of the header, once message_known_fields() was asked for it */
    bool has_known_fields;
    struct buf scratch;
    struct buf cached; /* on its way into the cache */
    struct buf text;   /* of a field, decoded */
};

void message_init(struct message *m, struct imap *s);
void message_finish(struct message *m);

/* The bytes of the EMAILID: the hash of the content, and the internal date, since whatever never changes of a message
 * has to be the same in all that have one EMAILID (RFC 8474 5.1, RFC 9051 2.3.1.1). COPY keeps both. */
void message_email_id(const struct mbox_info *info, uint8_t ret[16]);

/* Turns to message `seq` of the selected mailbox. 0, -EINVAL. */
int message_begin(struct message *m, uint32_t seq);

/* Its header, at most LIMIT_HEADER of it; m->header.length is how long it is. 0, -ESTALE, ... */
int message_header(struct message *m);

/* Its header, and the fields of m->envelope found in it. 0, -ESTALE, ... */
int message_known_fields(struct message *m);

/* Bytes in which header_next() finds all fields of that name as they stand in the header, in their order: the header
 * itself, or what the cache keeps of it, for which no message is read. Good until the next call on the mailbox or
 * message. 0, -ESTALE, ... */
int message_fields(struct message *m, struct str name, struct str *ret);

/* Its MIME tree. 0, -ESTALE, ... */
int message_tree(struct message *m);

/* Its BODYSTRUCTURE as IMAP prints it, in m->scratch; *ret_is_followed: see mime_tree_is_followed(). 0, -ESTALE, ... */
int message_structure(struct message *m, bool *ret_is_followed);

/* Its envelope as IMAP prints it, in m->scratch. 0, -ESTALE, ... */
int message_envelope(struct message *m);

/* Gives bytes [start, end) of the wire form to `sink`, piece by piece. A non-zero return of it ends the reading and is
 * returned. -ESTALE: the message is gone, or ended too early. */
int message_read(struct message *m, uint64_t start, uint64_t end, int (*sink)(void *context, struct str piece),
                 void *context);

#endif
