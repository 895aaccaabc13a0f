/*
 * What APPEND does with a literal8 (RFC 3516 4.4). An mbox keeps lines: a part whose bytes would not come back as they
 * are is stored in base64, as if the client had sent it so.
 */
#ifndef IMAP_APPEND_BINARY_H
#define IMAP_APPEND_BINARY_H

#include "handlers/imap/imap.h"

struct append_binary {
    int fd;      /* an unnamed file in the state folder */
    char last;   /* byte that was written */
    bool is_odd; /* NUL, CR or LF that are no CRLF, a last line without an end: it has to be looked at */
};

/* 0, or -ENOTSUP where no such file can be made. */
int append_binary_begin(struct imap *s, struct append_binary *b);
void append_binary_finish(struct append_binary *b);

/* The next bytes of the literal. 0 or the errno of write(2). */
int append_binary_write(struct append_binary *b, struct str bytes);

/* All have come: hands the message to the store, converted if need be. 0, -ENOTSUP: there are NULs or bare line ends
 * where nothing can be encoded; or the store's error. */
int append_binary_end(struct append_binary *b, struct mbox_append *to);

#endif
