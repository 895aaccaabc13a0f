/*
 * The message on its way: the file in the queue (LF) as the bytes that go over the wire (CRLF), as often as needed, in
 * constant memory. A last line without an end gets one; a bare CR, which RFC 5321 2.3.8 forbids and which could hide an
 * end of data from us and not from others, becomes a line end.
 */
#ifndef MIME_CONTENT_H
#define MIME_CONTENT_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/limits.h"

struct content_facts {
    uint64_t size;        /* octets on the wire, without dot stuffing */
    uint64_t header_size; /* of that the header, with its empty line */
    bool has_8bit_header;
    bool has_8bit_body;
};

/* Who gets the bytes. Non-zero ends the reading, which returns it. */
typedef int content_sink(void *context, struct str bytes);

/* Reads the whole file from its beginning. 0, what the sink returned, or a negative errno of read(2). */
int content_read(int fd, content_sink *sink, void *context);

/* The same with the bytes as they are. */
int content_read_raw(int fd, content_sink *sink, void *context);

/* What there is to know before MAIL. 0 or a negative errno. */
int content_scan(int fd, struct content_facts *ret);

/* A sink that writes wire form to a file in LF form: there every CR is one of a CRLF. 0 or a negative errno. */
struct content_file {
    int fd;
    struct buf held; /* one write(2) for many lines: BUF_INIT(CONTENT_PIECE) */
};
#define CONTENT_PIECE (LIMIT_HEADER + (128u << 10)) /* most that a sink gets at once: a header that was converted */
int content_write(void *file, struct str bytes);
int content_write_bytes(int fd, struct str bytes); /* as they are */

/* The same for a sink that takes LF form, in pieces of lines. */
int content_to_lf(struct str bytes, content_sink *sink, void *context);

/* Dot stuffing (RFC 5321 4.5.2): a sink that hands on to another one. */
struct content_stuffer {
    content_sink *sink;
    void *context;
    bool is_inside; /* of a line */
};
/* A content_sink whose context is a struct content_stuffer. 0, or what the other sink answers. */
int content_stuff(void *stuffer, struct str bytes);

#endif
