/*
 * Watches the header of a message as it streams by: what fields there are (submission adds the missing ones, RFC 6409
 * 8), how many trace fields (loops, RFC 5321 6.3), and where the header ends. It keeps counters, and where it is asked
 * to the text of From and Sender.
 */
#ifndef SMTP_HEADER_H
#define SMTP_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/str.h"

enum header_field {
    HEADER_DATE = 1u << 0,
    HEADER_FROM = 1u << 1,
    HEADER_MESSAGE_ID = 1u << 2,
    HEADER_TLS_OPTIONAL = 1u << 3, /* "TLS-Required: no" (RFC 8689 5) */
};

struct header_watch {
    bool is_ended;     /* the empty line, or a line that is no field, was seen */
    bool is_malformed; /* it ended by a line that is no field */
    unsigned fields;   /* bits of enum header_field */
    unsigned received; /* Received fields */
    unsigned from, sender;
    struct buf *from_text, *sender_text; /* borrowed: what they say, as much of it as fits; NULL: nobody asks */
    struct buf *gathered;                /* that of the current field */
    uint64_t size;                       /* octets of the header */
    char name[16];                       /* front of the current line, lower case, until its colon */
    uint8_t name_len;
    char value[4]; /* front of a TLS-Required field's text without blanks, lower case */
    uint8_t value_len;
    int state; /* enum in header.c */
};

/* Looks at the next piece (lines end in LF, any pieces). Returns how many bytes of it belong to the header: bytes.len
 * until the end of the header is in this piece; then the offset of the line that ended it. */
size_t header_watch(struct header_watch *h, struct str bytes);

#endif
