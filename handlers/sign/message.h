/*
 * The message that is signed, as it leaves the machine: the file in the queue with its line ends made whole, in seven
 * bits wherever that can be done (RFC 6376 5.3: what a server on the way converts loses its signature). Two kinds are
 * left in eight: what has a signature of another kind inside (multipart/signed), which converting would break, and what
 * cannot be converted at all.
 */
#ifndef SIGN_MESSAGE_H
#define SIGN_MESSAGE_H

#include <stdbool.h>

#include "shared/mime/convert.h"

struct message {
    int file;
    struct convert convert;
    bool is_converted;
    struct buf header;     /* LF line ends, without the empty line */
    uint8_t body_hash[32]; /* dkim_body_end() */
};

/* Reads `file` from its first byte, by pread(2), and looks at it; it stays the caller's. 0; -EFBIG: the header is too
 * big; -ENOMEM, errno of pread(2). message_finish() in every case. */
int message_load(int file, struct message *ret);
void message_finish(struct message *m);

/* Writes it with LF line ends. 0 or a negative errno of pread(2), write(2). */
int message_write(const struct message *m, int out);

#endif
