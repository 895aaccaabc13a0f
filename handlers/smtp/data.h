/*
 * The reader of message data behind DATA: finds the end, undoes dot stuffing (RFC 5321 4.5.2) and turns CRLF into LF,
 * which is how messages are kept on disk. The end of the data is CRLF "." CRLF and nothing else; a bare CR, bare LF or
 * NUL spoils the message, but reading goes on to the true end, so that no byte of it is ever taken for a command (SMTP
 * smuggling). Pure state machine: bytes may come in any pieces.
 */
#ifndef SMTP_DATA_H
#define SMTP_DATA_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/str.h"

enum data_mode {
    DATA_STRICT,    /* bare LF spoils the message */
    DATA_NORMALIZE, /* bare LF is a line end inside the message, but never part of the end of the data */
    DATA_LENIENT,   /* bare LF is a line end everywhere: a pipe or terminal */
    DATA_BINARY,    /* BINARYMIME (RFC 3030): the header as in DATA_STRICT, what is behind it as it comes */
};

enum data_fault {
    DATA_BARE_CR = 1u << 0,
    DATA_BARE_LF = 1u << 1,
    DATA_NUL = 1u << 2,
};

struct data_reader {
    enum data_mode mode;
    bool is_counted; /* BDAT (RFC 3030): the end is told by a count, dots mean nothing */
    /* Takes the next piece of the message. Non-zero: the rest is read and dropped, the value stays in `error`. */
    int (*write)(void *context, struct str bytes);
    void *context;

    int state; /* enum in data.c; 0: at the start of the message */
    bool is_empty_line;
    bool is_raw; /* DATA_BINARY: behind the empty line that ends the header */
    bool is_end;
    bool has_8bit;   /* octets above 127 were among them */
    unsigned faults; /* bits of enum data_fault */
    int error;
    uint64_t size; /* octets of the message as sent, stuffing undone, line ends counted as CRLF */
};

void data_init(struct data_reader *d, enum data_mode mode, int (*write)(void *, struct str), void *context);

/* Feeds bytes; returns how many belong to the message and its end. When d->is_end, what follows are commands. */
size_t data_feed(struct data_reader *d, struct str bytes);

/* A counted message is complete: its last line gets its end, unless it is binary. */
void data_end_counted(struct data_reader *d);

#endif
