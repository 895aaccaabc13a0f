/*
 * The permit table: which frame a less privileged process may send in which phase, how often, and what handles it.
 * Anything else is a protocol violation and ends the connection. After OpenSSH's monitor.
 */
#ifndef GATE_PERMIT_H
#define GATE_PERMIT_H

#include <stddef.h>
#include <stdint.h>

#include "shared/io/frame.h"

struct permit {
    uint16_t type;   /* enum frame_type */
    uint16_t max;    /* how often in one connection; 0: as often as it likes */
    uint32_t phases; /* bits 1u << phase in which it is allowed */
    /* Reads its fields from `in` and calls frame_end() before it acts. Negative: fatal. */
    int (*run)(void *context, struct frame *f, struct frame_reader *in);
};

#define PERMIT_ROWS 64 /* most rows of one table */

struct permit_use {
    uint16_t count[PERMIT_ROWS]; /* how often each row was used */
};

/* Runs the row for this frame. -ENOENT: no row. -EPERM: wrong phase, or too often. -EBADMSG and others: the handler's.
 */
int permit_run(const struct permit *table, size_t rows, struct permit_use *use, uint32_t phase, void *context,
               struct frame *f);

#endif
