/*
 * The line reader: bounded lines and counted bytes from a transport, for every protocol. Before it waits for input it
 * flushes the writer tied to it.
 */
#ifndef IO_LINE_H
#define IO_LINE_H

#include <stdbool.h>

#include "shared/base/buf.h"
#include "shared/io/transport.h"
#include "shared/io/writer.h"

#define LINE_BUFFER (32u << 10)
#define LINE_TAIL   32u

enum line_ending {
    LINE_CRLF,    /* CRLF ends a line; a bare CR or LF inside is -EBADMSG (the line is consumed up to the CRLF) */
    LINE_LENIENT, /* CRLF or LF ends a line (IMAP, POP3, pipes); a bare CR is part of the line */
};

struct line_reader {
    struct transport *transport;
    struct writer *writer; /* flushed before a wait; may be NULL */
    enum line_ending ending;
    size_t max;    /* longest line without its ending */
    struct buf in; /* in.data + pos: what has not been consumed */
    size_t pos;
    size_t high; /* bytes of in.data that have ever been written: what has to be wiped */
    bool is_eof;
    uint64_t received;
    char tail[LINE_TAIL]; /* see line_tail() */
    size_t tail_len;
};

/* `max`: longest line. Nothing is owned but the buffer. */
void line_reader_init(struct line_reader *r, struct transport *t, struct writer *w, enum line_ending ending,
                      size_t max);

/* Frees the buffer after wiping it (it may have held a password). */
void line_reader_finish(struct line_reader *r);

/* The next line without its ending, as a view that is good until the next call on this reader.
 *   -ENODATA    the input ended between lines
 *   -EPIPE      the input ended inside a line (what there was is dropped)
 *   -ENOBUFS    longer than max: it was consumed up to its end, in constant memory
 *   -EBADMSG    it held a NUL, or with LINE_CRLF a bare CR or LF: consumed to its end
 *   -ETIMEDOUT  and other errors of the transport */
int line_read(struct line_reader *r, struct str *ret_line);

/* The last bytes (at most LINE_TAIL) before the ending of the line that line_read() refused with -ENOBUFS or -EBADMSG:
 * an IMAP line may announce a literal there, whatever stands in front of it (RFC 7888 4). */
struct str line_tail(const struct line_reader *r);

/* At least one unconsumed byte, waiting if there is none: a view of all that is buffered, for literals and message
 * data. -ENODATA at the end of input, -ETIMEDOUT, ... */
int line_peek(struct line_reader *r, struct str *ret_bytes);

/* At least `want` unconsumed bytes (want <= LINE_BUFFER), unless the input ends first: then what there is. */
int line_peek_more(struct line_reader *r, size_t want, struct str *ret_bytes);

/* Consumes the first n of the buffered bytes. */
void line_consume(struct line_reader *r, size_t n);

/* What is buffered now, without waiting. */
struct str line_buffered(const struct line_reader *r);

/* Drops everything buffered (STARTTLS: nothing that came in the clear may be executed, RFC 3207 4.2), wiping it. */
void line_discard(struct line_reader *r);

/* Puts bytes in front of what is buffered (input handed over by the login stage). 0, -ENOBUFS, -ENOMEM. */
int line_unread(struct line_reader *r, struct str bytes);

/* Waits until input is buffered or readable, or other_fd is readable; flushes first. As transport_wait(). */
int line_wait(struct line_reader *r, int other_fd, int timeout_ms);

#endif
