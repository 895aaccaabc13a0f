/*
 * 8-bit messages for servers without 8BITMIME (RFC 6152 3), and before a DKIM signature is made (RFC 6376 5.3): each
 * part that has 8-bit text is encoded in quoted-printable or base64, and only those; everything else stays as it is,
 * byte for byte, so that converting what was converted changes nothing. What cannot be converted without loss (an
 * encoding that nobody knows) is refused.
 */
#ifndef MIME_CONVERT_H
#define MIME_CONVERT_H

#include "shared/mime/content.h"
#include "shared/mime/structure.h"

struct convert_edit {
    uint64_t from, to;            /* offsets on the wire */
    const struct mime_part *part; /* of a header: whose */
    int kind;                     /* enum in convert.c */
};

struct convert {
    struct mime_tree tree;
    struct convert_edit *edits; /* ascending, not overlapping */
    size_t count;
    bool breaks_seal; /* what a multipart/signed has a signature for is changed */
};
#define _cleanup_convert_ _cleanup_(convert_finish)

/* Looks at the message and decides. 0, -ENOTSUP: not possible; -ENOMEM, errno of read(2). */
int convert_plan(int fd, struct convert *ret);
void convert_finish(struct convert *c);

/* Reads the file as content_read() does, converted. */
int convert_read(int fd, const struct convert *c, content_sink *sink, void *context);

#endif
