/*
 * The inner loop of the scanner: the next line that begins with one of two bytes, counting line ends on the way, with
 * the compiler's portable vectors.
 */
#ifndef MBOX_SCAN_FIND_H
#define MBOX_SCAN_FIND_H

#include <stdint.h>

struct scan_counts {
    uint64_t lf;
    uint64_t crlf;
};

/* The first LF in [p, end) that is followed by `a` or `b`, or end. Adds the LFs up to and with it to *counts, and how
 * many of them have a CR in front. The byte before p must be readable, and the one at `end` and 32 more, which do not
 * matter but for the one at `end`. */
typedef const uint8_t *scan_finder(const uint8_t *p, const uint8_t *end, uint8_t a, uint8_t b,
                                   struct scan_counts *counts);

scan_finder scan_find;
#ifdef SCAN_HAS_WIDE
scan_finder scan_find_wide; /* for processors with AVX2 */
#endif

#endif
