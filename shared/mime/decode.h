/*
 * Content transfer encodings (RFC 2045 6), streaming both ways. The decoders are tolerant: what is not of the alphabet
 * is skipped or passed, as RFC 2045 6.7 and 6.8 advise; is_damaged remembers it.
 */
#ifndef MIME_DECODE_H
#define MIME_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/mime/structure.h"

struct decoder {
    enum mime_encoding kind;
    uint32_t bits;   /* base64: bits collected */
    unsigned count;  /* base64: sextets in it; quoted-printable, uuencode: place in a token */
    bool is_ended;   /* base64: padding was seen; uuencode: the end line */
    bool is_damaged; /* something was not as it should be */
    char hex;        /* quoted-printable: first digit */
    struct buf held; /* quoted-printable: blanks that may be trailing; uuencode: the line */
};

/* An unknown encoding passes the bytes as they are. */
void decoder_init(struct decoder *d, enum mime_encoding kind);
void decoder_finish(struct decoder *d);
void decoder_reset(struct decoder *d);

/* Appends what the piece decodes to; then the end of the text. 0, -ENOBUFS, -ENOMEM. */
int decoder_feed(struct decoder *d, struct str piece, struct buf *out);
int decoder_end(struct decoder *d, struct buf *out);

/* Which kind a Content-Transfer-Encoding names (null: none). */
enum mime_encoding decoder_kind(struct str encoding);

/* Base64 of a whole text without line ends; and back, strictly (RFC 4648 4, padding required): -EINVAL. */
int base64_encode(struct str bytes, struct buf *out);
int base64_decode(struct str text, struct buf *out);

/* Streaming encoders with lines of 76 characters and CRLF. Quoted-printable keeps CRLF as line ends when is_text. */
struct encoder {
    enum mime_encoding kind; /* base64 or quoted-printable */
    bool is_text;
    uint8_t held[3];
    unsigned count;
    unsigned column;
};
/* Before the first byte of a text, and to use it again. */
void encoder_init(struct encoder *e, enum mime_encoding kind, bool is_text);
int encoder_feed(struct encoder *e, struct str piece, struct buf *out);
int encoder_end(struct encoder *e, struct buf *out);

#endif
