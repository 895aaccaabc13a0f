/*
 * Buffered output. Nothing is sent until the buffer is full, writer_flush() is called, or the line reader that is tied
 * to it has to wait for input: so pipelined commands are answered in one packet and nobody forgets to flush.
 * The first error sticks: later calls do nothing and return it, so a caller may write a whole reply and look once.
 */
#ifndef IO_WRITER_H
#define IO_WRITER_H

#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/io/transport.h"

#define WRITER_BUFFER (64u << 10) /* each write wakes the other side: with half of it a mailbox took a fifth longer */

struct writer {
    struct transport *transport;
    struct buf out;
    int error;     /* first negative errno, sticky */
    uint64_t sent; /* bytes handed in, for the session's log line */
};

/* An empty writer on a transport, which is borrowed. */
void writer_init(struct writer *w, struct transport *t);
void writer_finish(struct writer *w); /* does not flush */

/* All: 0 or the sticky negative errno. */
int writer_add(struct writer *w, const void *data, size_t len);
int writer_str(struct writer *w, struct str s);
int writer_text(struct writer *w, const char *text);
int writer_texts(struct writer *w, const char *const *texts); /* one behind the other; NULL ends them */
int writer_u64(struct writer *w, uint64_t n);
int writer_printf(struct writer *w, const char *format, ...) _printf_(2, 3);
int writer_flush(struct writer *w);

#define WRITER_TEXTS(w, ...) writer_texts((w), (const char *const[]){__VA_ARGS__, NULL})

#endif
