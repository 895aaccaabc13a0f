/*
 * The inner loop of the scanner: the next line that begins with one of two bytes, counting line ends on the way, 16
 * bytes at a time with the compiler's portable vectors.
 */
#ifndef MBOX_SCAN_FIND_H
#define MBOX_SCAN_FIND_H

#include <stdint.h>

struct scan_counts {
    uint64_t lf;
    uint64_t crlf;
};

/* The first LF in [p, end) that is followed by `a` or `b`, or end. Adds the LFs and CRLFs before it to *counts.
 * The byte at `end` and 16 more must be readable; they do not matter but for the one at `end`. */
const uint8_t *scan_find(const uint8_t *p, const uint8_t *end, uint8_t a, uint8_t b, struct scan_counts *counts);

#endif
