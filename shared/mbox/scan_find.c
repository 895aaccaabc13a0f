/*
 * Vectorised search for line beginnings. Part of the library: no process of its own. Compiled twice on x86-64: with the
 * vectors that every such machine has, and with twice as long ones (see meson.build).
 */
#include "shared/mbox/scan_find.h"

#include "shared/base/lanes.h"

#ifndef SCAN_FIND
#define SCAN_FIND scan_find
#endif

#define ROUNDS 255 /* a byte lane counts to 255 */
#define STEP   4   /* vectors between two looks whether there was a hit */

/* What has been counted in each lane. */
struct sums {
    lanes_bytes lf;
    lanes_bytes crlf;
};

static const uint8_t *find_bytewise(const uint8_t *p, const uint8_t *end, uint8_t a, uint8_t b,
                                    struct scan_counts *counts)
{
    for (; p < end; p++) {
        if (*p != '\n')
            continue;
        counts->lf++;
        counts->crlf += p[-1] == '\r';
        if (p[1] == a || p[1] == b)
            return p;
    }
    return end;
}

/* Counts the line ends of n vectors. Does one of them begin a line that is looked for? */
static inline bool count(const uint8_t *p, int n, uint8_t a, uint8_t b, struct sums *s)
{
    lanes_bytes hits = {0};

    for (int i = 0; i < n; i++, p += LANES) {
        lanes_bytes is_lf = (lanes_bytes)(lanes_load(p) == '\n'), next = lanes_load(p + 1);

        hits |= is_lf & (lanes_bytes)((next == a) | (next == b));
        s->lf -= is_lf;
        s->crlf -= is_lf & (lanes_bytes)(lanes_load(p - 1) == '\r');
    }
    return lanes_any(hits);
}

static inline const uint8_t *find(const uint8_t *p, const uint8_t *end, uint8_t a, uint8_t b,
                                  struct scan_counts *counts)
{
    bool is_near = false; /* a hit in the next vector */

    while (!is_near && end - p >= LANES) {
        struct sums sums = {0};

        for (int i = 0; i + STEP <= ROUNDS && end - p >= LANES;) {
            struct sums many = sums, one = sums;

            if (end - p >= STEP * LANES && !count(p, STEP, a, b, &many)) {
                sums = many;
                p += STEP * LANES;
                i += STEP;
            } else if (!count(p, 1, a, b, &one)) {
                sums = one;
                p += LANES;
                i++;
            } else {
                is_near = true;
                break;
            }
        }
        counts->lf += lanes_sum(sums.lf);
        counts->crlf += lanes_sum(sums.crlf);
    }
    return find_bytewise(p, end, a, b, counts);
}

const uint8_t *SCAN_FIND(const uint8_t *p, const uint8_t *end, uint8_t a, uint8_t b, struct scan_counts *counts)
{
    return a == b ? find(p, end, a, a, counts) : find(p, end, a, b, counts); /* the first with one comparison less */
}
