/*
 * Vectorised search for line beginnings. Part of the library: no process of its own.
 */
#include "shared/mbox/scan_find.h"

#include "shared/mbox/lanes.h"

#define ROUNDS 255 /* a byte lane counts to 255 */

static uint64_t sum_lanes(lanes_bytes v)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < LANES; i++)
        sum += v[i];
    return sum;
}

static const uint8_t *find_bytewise(const uint8_t *p, const uint8_t *end, uint8_t a, uint8_t b,
                                    struct scan_counts *counts)
{
    for (; p < end; p++) {
        if (*p == '\n') {
            if (p[1] == a || p[1] == b)
                return p;
            counts->lf++;
        } else if (*p == '\r' && p[1] == '\n') {
            counts->crlf++;
        }
    }
    return end;
}

const uint8_t *scan_find(const uint8_t *p, const uint8_t *end, uint8_t a, uint8_t b, struct scan_counts *counts)
{
    while (end - p >= LANES) {
        lanes_bytes lf = {0}, crlf = {0};
        int hit = 0;

        for (int i = 0; i < ROUNDS && end - p >= LANES; i++, p += LANES) {
            lanes_bytes v = lanes_load(p), w = lanes_load(p + 1);
            lanes_bytes is_lf = (lanes_bytes)(v == '\n');

            if (lanes_any(is_lf & (lanes_bytes)((w == a) | (w == b)))) {
                hit = 1;
                break;
            }
            lf -= is_lf;
            crlf -= (lanes_bytes)((v == '\r') & (w == '\n'));
        }
        counts->lf += sum_lanes(lf);
        counts->crlf += sum_lanes(crlf);
        if (hit)
            return find_bytewise(p, p + LANES, a, b, counts);
    }
    return find_bytewise(p, end, a, b, counts);
}
