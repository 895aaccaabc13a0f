/*
 * A message as programs write it to sendmail's standard input, made into header and body: line ends of all kinds become
 * LF, the header ends where the fields end, a lone dot ends the message unless dots are text. Pieces may be of any
 * size.
 */
#ifndef SENDMAIL_INPUT_H
#define SENDMAIL_INPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"

#define INPUT_OUT (32u << 10) /* bytes of the body that are written at once */

struct input {
    /* Set by the caller. */
    bool ignores_dots;
    int (*write)(void *context, struct str bytes); /* takes the body */
    void *context;

    struct buf header; /* whole fields with their line ends; without the empty line */
    bool is_end;       /* the lone dot was seen: the rest is not the message's */
    bool is_8bit;      /* body or header has a byte above 127 */
    uint64_t size;     /* of header and body, line ends counted as CRLF */

    /* Inside. */
    bool is_body;
    bool is_cr;      /* the last byte was a CR, told as a line end already */
    size_t line;     /* where the current line begins in `header` */
    unsigned column; /* of the body's line: 0, 1 behind a dot, 2 */
    struct buf out;
};

void input_init(struct input *in, bool ignores_dots, int (*write)(void *, struct str), void *context);
void input_finish(struct input *in);

/* Takes a piece. 0, -E2BIG: the header is too big, -ENOMEM, or what write() returned. */
int input_feed(struct input *in, struct str bytes);

/* The input has ended: a last line without its end gets one. */
int input_end(struct input *in);

#endif
