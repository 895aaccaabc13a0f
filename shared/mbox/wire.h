/*
 * From stored bytes to wire form: interop fields left out, quoting undone, CRLF line ends. The exact counterpart of
 * what the scanner counts and hashes.
 */
#ifndef MBOX_WIRE_H
#define MBOX_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/mbox/interop.h"

struct wire {
    enum interop_form form;
    bool has_marker;
    bool lacks_newline; /* complete the last line */
    uint64_t header;    /* stored header bytes still to come */
    bool is_inside;     /* the last call ended inside a line */
    bool is_hidden;     /* the current header field is left out */
    uint8_t last;       /* last stored byte seen */
};

/* Room that `len` stored bytes need. */
#define WIRE_ROOM(len) (2 * (len) + 2)

/* Converts stored bytes, which start behind the flag block for the first call. `is_last`: they reach to the separator.
 * Writes to `out` (WIRE_ROOM(len) bytes), returns how many; *ret_consumed may be less than len when a line is not whole
 * and not is_last: hand in the rest again with more behind it (len of at least INTEROP_WINDOW always makes progress).
 */
size_t wire_convert(struct wire *w, const uint8_t *in, size_t len, bool is_last, uint8_t *out, size_t *ret_consumed);

#endif
