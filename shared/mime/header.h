/*
 * Message headers as bytes: where the header ends, its fields one by one, unfolding, selection of fields.
 *
 * Nothing here fails on a malformed header. Line ends are CRLF in wire form; a bare LF is taken for one too. The header
 * ends with the first empty line (which belongs to it) or where the bytes end. A line without a colon that continues
 * nothing is a field with an empty name: it is kept when a header is copied, and found by no name.
 */
#ifndef MIME_HEADER_H
#define MIME_HEADER_H

#include <stdbool.h>

#include "shared/base/buf.h"

struct header_field {
    struct str name; /* without the colon and blanks before it; may be empty */
    struct str body; /* behind the colon up to the final line end, folds still in it */
    struct str raw;  /* the whole field with its line ends */
};

/* Length of the header at the front of `bytes`, with the empty line that ends it. *ret_is_whole (may be NULL) tells
 * whether that line is there. */
size_t header_length(struct str bytes, bool *ret_is_whole);

/* Iteration: `rest` starts as the header; the empty line ends it. Views point into the header. */
struct header_iter {
    struct str rest;
};
/* Before its first field. */
struct header_iter header_iterate(struct str header);
bool header_next(struct header_iter *i, struct header_field *ret);

/* The first field of that name (ASCII letters without regard to case). False: there is none. */
bool header_find(struct str header, struct str name, struct header_field *ret);

/* Appends a field's body on one line: line ends removed, each NUL and bare CR made a blank, trimmed of blanks at both
 * ends. At most LIMIT_HEADER_FIELD bytes of it are taken. 0, -ENOBUFS, -ENOMEM. */
int header_unfold(struct str body, struct buf *out);

/* The same for the first field of that name. -ENOENT: there is none. */
int header_value(struct str header, struct str name, struct buf *out);

/* Appends a field as it stands; the last line of a cut header is given its end. 0, -ENOBUFS, -ENOMEM. */
int header_add_field(struct str raw, struct buf *out);

/* Appends the fields that are (is_not: are not) among `names`, as they stand, then an empty line: what
 * HEADER.FIELDS and HEADER.FIELDS.NOT return (RFC 9051 6.4.5.1). 0, -ENOBUFS, -ENOMEM. */
int header_select(struct str header, const struct str *names, size_t count, bool is_not, struct buf *out);

/* Collects a header from bytes that come in pieces, at most LIMIT_HEADER of it (what is over is skipped up to the end
 * of the header, whole fields only are kept). */
struct header_collector {
    struct buf bytes;  /* the header so far, with its empty line once is_whole */
    uint64_t length;   /* bytes of header seen, the empty line included */
    bool is_whole;     /* the empty line has come */
    bool is_cut;       /* it was longer than LIMIT_HEADER */
    bool is_line_used; /* inside: the current line is not empty */
    bool is_cr;        /* inside: the current line is a CR so far */
};
/* Empty; needs no memory yet. */
void header_collector_init(struct header_collector *c);
void header_collector_finish(struct header_collector *c);
void header_collector_clear(struct header_collector *c); /* for the next message; keeps the memory */

/* Takes header bytes from `piece`; *ret_used tells how many (all, unless the header ended). 0, -ENOMEM. */
int header_collect(struct header_collector *c, struct str piece, size_t *ret_used);

#endif
