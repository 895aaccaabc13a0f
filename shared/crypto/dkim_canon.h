/*
 * The canonical forms that DKIM hashes: "relaxed" of header fields and of bodies (RFC 6376 3.4.2, 3.4.4). Pure; line
 * ends of the input may be LF or CRLF, those of the output are CRLF.
 */
#ifndef CRYPTO_DKIM_CANON_H
#define CRYPTO_DKIM_CANON_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"

/* Appends the relaxed form of one field, folds and line end included in `field`: "name:value", without a line end.
 * 0, -ENOBUFS, -ENOMEM. */
int dkim_canon_field(struct str field, struct buf *out);

/* A body in pieces of any size and in constant memory. */
struct dkim_canon {
    int (*write)(void *context, struct str bytes); /* takes the canonical text; non-zero ends it */
    void *context;

    uint64_t
        empty;     /* line ends that are written only when text follows (3.4.4 a: those at the end count for nothing) */
    bool is_blank; /* blanks were seen that are written only when text follows */
    bool is_begun; /* there was text */
    bool is_cr;    /* the last byte was a CR */
};

/* What it makes goes to `write`, which returns 0 or a negative errno; feed and end hand that on. */
void dkim_canon_init(struct dkim_canon *c, int (*write)(void *, struct str), void *context);
int dkim_canon_feed(struct dkim_canon *c, struct str bytes);
int dkim_canon_end(struct dkim_canon *c);

/* Takes the first field, folded lines and all, off *header. False: there is none (an empty line, or the end). */
bool dkim_canon_next(struct str *header, struct str *ret_field);

/* The name of a field: what stands before the colon, without blanks. Empty: it is no field. */
struct str dkim_canon_name(struct str field);

#endif
