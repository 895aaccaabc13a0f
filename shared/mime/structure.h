/*
 * MIME structure (RFC 2045, 2046, 2231, 2183): a push parser that is fed a message in wire form, in pieces of any size,
 * and builds a tree of its parts. It keeps at most one header and the tree in memory; body bytes are only looked at.
 *
 * No message makes it fail. What it cannot follow is a leaf: a body behind LIMIT_MIME_DEPTH or LIMIT_MIME_PARTS, a
 * multipart without a boundary, a message/rfc822 in base64. Such a multipart or message still has one child, text/plain
 * without a header, that covers its whole body: so every response built from the tree is well-formed and every byte can
 * be reached.
 */
#ifndef MIME_STRUCTURE_H
#define MIME_STRUCTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"

enum mime_kind {
    MIME_LEAF,
    MIME_MULTIPART, /* one child or more */
    MIME_MESSAGE,   /* message/rfc822 or message/global: exactly one child, the message inside */
};

enum mime_encoding {
    MIME_ENCODING_NONE, /* 7bit, 8bit, binary, or no header field */
    MIME_ENCODING_QUOTED_PRINTABLE,
    MIME_ENCODING_BASE64,
    MIME_ENCODING_UUENCODE, /* x-uuencode, uuencode */
    MIME_ENCODING_UNKNOWN,  /* IMAP BINARY answers [UNKNOWN-CTE] */
};

struct mime_param {
    struct str name;     /* as sent, without RFC 2231 marks ("filename", not "filename*0*") */
    struct str value;    /* unquoted; RFC 2231 continuations joined; in UTF-8 if it was charset-encoded */
    struct str extended; /* if it was charset-encoded: "utf-8'en'%e2%82%ac", continuations joined, what IMAP gives out
                          * as parameter `name*` (RFC 2231 6); else null */
};

struct mime_params {
    struct mime_param *items;
    size_t count;
};

/* A null view (ptr NULL) is an absent field, an empty view a field that is there and empty. */
struct mime_part {
    enum mime_kind kind;
    enum mime_encoding encoding_kind;
    uint64_t header; /* offset of the part's header in the wire form */
    uint64_t body;   /* offset of its body, behind the empty line */
    uint64_t end;    /* offset behind its body: body <= end; the CRLF before a boundary is not part of it */
    uint64_t lines;  /* line ends in the body */

    struct str type; /* never null: "text"; as sent, without blanks */
    struct str subtype;
    struct mime_params params;
    struct str id;
    struct str description;
    struct str encoding; /* as sent; null: "7bit" */
    struct str md5;
    struct str disposition;
    struct mime_params disposition_params;
    struct str *languages;
    size_t language_count;
    struct str location;
    struct str envelope; /* of the child of a MIME_MESSAGE: the header fields that make its ENVELOPE, as they stand */

    struct mime_part *parent;
    struct mime_part *child; /* first */
    struct mime_part *next;  /* sibling */
    uint32_t number;         /* 1 and up among its siblings */
    uint32_t child_count;
};

/* A parsed message. Its parts and their strings live as long as the tree. */
struct mime_tree {
    struct mime_part *root;
    uint32_t part_count;
    struct mime_arena *arena;
};
#define _cleanup_mime_tree_ _cleanup_(mime_tree_finish)

/* Frees all of it; root is NULL afterwards. */
void mime_tree_finish(struct mime_tree *t);

/* Did the parser follow all of it? False: some part is a leaf because of a limit, or because it makes no sense. */
bool mime_tree_is_followed(const struct mime_tree *t);

/* ---- parsing ---- */

struct mime_parser;

int mime_parser_new(struct mime_parser **ret); /* 0, -ENOMEM */
void mime_parser_free(struct mime_parser *p);  /* NULL is fine */

/* The next bytes of the message. 0, -ENOMEM. */
int mime_parser_feed(struct mime_parser *p, struct str piece);

/* The message has ended: hands over the tree. The parser can then be fed the next message. 0, -ENOMEM. */
int mime_parser_end(struct mime_parser *p, struct mime_tree *ret);

/* Gives up the message that was being fed; the parser can be fed the next one. */
void mime_parser_reset(struct mime_parser *p);

/* Who wants to see the content on the way: called during feed and end, in the order of the message. A part's address is
 * its identity; what its header says is filled in, its end is not yet. Header bytes come whole (at most LIMIT_HEADER).
 * Body bytes are those of leaves, of parts that get a text child, and the preamble and epilogue of multiparts; the line
 * end before a delimiter comes with them. A non-zero return ends feed or end, which return it. */
struct mime_sink {
    void *context;
    int (*header)(void *context, const struct mime_part *part, struct str header);
    int (*body)(void *context, const struct mime_part *part, struct str bytes);
};
void mime_parser_set_sink(struct mime_parser *p, const struct mime_sink *sink); /* copied */

/* ---- the tree as bytes, for a cache ---- */

/* Appends it. 0, -ENOBUFS, -ENOMEM. */
int mime_tree_write(const struct mime_tree *t, struct buf *out);

/* Reads it back; everything is checked, offsets against `message_size` too: -EBADMSG, parse the message again. */
int mime_tree_read(struct str bytes, uint64_t message_size, struct mime_tree *ret);

/* ---- looking things up ---- */

/* The part that IMAP calls "1.2.3" (RFC 9051 6.4.5.1), count >= 1. NULL: there is none. Its body is [body, end). Its
 * MIME header is [header, body). HEADER and TEXT of a part are those of part->child if it is a MIME_MESSAGE, and do not
 * exist otherwise; of the whole message they are those of the root. */
const struct mime_part *mime_part_find(const struct mime_part *root, const uint32_t *numbers, size_t count);

/* The value of a parameter (name without regard to case); null: not there. */
struct str mime_param_get(const struct mime_params *params, struct str name);

/* Is it type/subtype, without regard to case? A subtype "*" matches all. */
bool mime_part_is(const struct mime_part *part, const char *type, const char *subtype);

/* ---- field bodies that are values with parameters ---- */

/* Parses "value; name=value; ..." as in Content-Disposition, with all of RFC 2231, into views of `text`, which must be
 * empty and is the owner of all strings; *ret->items is freed by the caller. At most LIMIT_PARAMETERS; garbage is
 * skipped. 0, -ENOMEM, -ENOBUFS. */
int mime_params_parse(struct str field_body, struct buf *text, struct str *ret_value, struct mime_params *ret);

#endif
