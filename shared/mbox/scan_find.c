/*
 * Vectorised search for line beginnings. Part of the library: no process of its own.
 */
#include "shared/mbox/scan_find.h"

#include <stddef.h>
#include <string.h>

typedef uint8_t scan_bytes __attribute__((vector_size(16), may_alias));
typedef uint64_t scan_words __attribute__((vector_size(16), may_alias));

#define LANES  16
#define ROUNDS 255 /* a byte lane counts to 255 */

static scan_bytes load(const uint8_t *p)
{
    scan_bytes v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static uint64_t sum_lanes(scan_bytes v)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < LANES; i++)
        sum += v[i];
    return sum;
}

static int is_any(scan_bytes v)
{
    scan_words w = (scan_words)v;

    return (w[0] | w[1]) != 0;
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
        scan_bytes lf = {0}, crlf = {0};
        int hit = 0;

        for (int i = 0; i < ROUNDS && end - p >= LANES; i++, p += LANES) {
            scan_bytes v = load(p), w = load(p + 1);
            scan_bytes is_lf = (scan_bytes)(v == '\n');

            if (is_any(is_lf & (scan_bytes)((w == a) | (w == b)))) {
                hit = 1;
                break;
            }
            lf -= is_lf;
            crlf -= (scan_bytes)((v == '\r') & (w == '\n'));
        }
        counts->lf += sum_lanes(lf);
        counts->crlf += sum_lanes(crlf);
        if (hit)
            return find_bytewise(p, p + LANES, a, b, counts);
    }
    return find_bytewise(p, end, a, b, counts);
}
