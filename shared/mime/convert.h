/*
 * Messages for who cannot take them as they are; everything else stays as it is, byte for byte, so that converting what
 * was converted changes nothing. What cannot be converted without loss (an encoding that nobody knows) is refused.
 *
 * To 7 bits: for servers without 8BITMIME (RFC 6152 3), and before a DKIM signature is made (RFC 6376 5.3). Each part
 * that has 8-bit text is encoded in quoted-printable or base64; a message/global with such text anywhere in it, header
 * or body, as a whole.
 *
 * To global: a report for servers with 8BITMIME and without SMTPUTF8 (RFC 6533 4.5). Of a multipart/report each
 * message/global and message/global-headers that has 8-bit text is encoded; what is no such report is left alone.
 *
 * To lines: binary messages (RFC 3030 3), in strict canonical form, for who keeps lines. Each part that has NUL bytes,
 * CR and LF that are no line ends, or lines beyond 998 octets is encoded; labels "binary" that are not true any more
 * become "8bit".
 */
#ifndef MIME_CONVERT_H
#define MIME_CONVERT_H

#include "shared/mime/content.h"
#include "shared/mime/structure.h"

enum convert_target {
    CONVERT_7BIT,   /* of a file in LF form, as in the queue */
    CONVERT_GLOBAL, /* as that */
    CONVERT_LINES,  /* of a file that has the octets of the wire */
};

enum convert_kind {
    CONVERT_HEADER_7BIT,   /* header of a part whose label is 8bit or binary and whose content is neither any more */
    CONVERT_HEADER_8BIT,   /* header of a part whose label is binary and whose content is not */
    CONVERT_HEADER_QP,     /* header of a part that becomes quoted-printable */
    CONVERT_HEADER_BASE64, /* base64 */
    CONVERT_HEADER_SAME,   /* header that stays */
    CONVERT_QP,            /* body to encode */
    CONVERT_BASE64,
    CONVERT_ESCAPE, /* body in quoted-printable with 8-bit bytes in it: these alone are encoded */
};

struct convert_edit {
    uint64_t from, to;            /* offsets on the wire */
    const struct mime_part *part; /* of a header: whose */
    enum convert_kind kind;
};

struct convert {
    enum convert_target target;
    struct mime_tree tree;
    struct convert_edit *edits; /* ascending, not overlapping */
    size_t count;               /* 0: it stays as it is, byte for byte, unless the target is CONVERT_7BIT */
    bool breaks_seal;           /* what a multipart/signed has a signature for is changed */
};
#define _cleanup_convert_ _cleanup_(convert_finish)

/* Looks at the message and decides. 0, -ENOTSUP: not possible; -EBADMSG: not in canonical form (CONVERT_LINES);
 * -ENOMEM, errno of read(2). */
int convert_plan(int fd, enum convert_target target, struct convert *ret);
void convert_finish(struct convert *c);

/* Reads the file as content_read() does, converted. -EBADMSG: as above, found only now. */
int convert_read(int fd, const struct convert *c, content_sink *sink, void *context);

#endif
