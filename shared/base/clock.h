/*
 * The clock and the identifiers drawn from it. Scripted sessions freeze both (--epoch=SECONDS) so that their output is
 * the same byte for byte from run to run; then every identifier comes from a counter.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"

struct clock {
    bool is_frozen;
    int64_t epoch;   /* seconds since 1970 UTC while frozen */
    uint64_t serial; /* identifiers handed out */
};

/* Wall clock in seconds (frozen: the epoch). */
int64_t clock_now(const struct clock *c);

/* Monotonic milliseconds, for deadlines; never frozen. */
int64_t clock_monotonic_ms(void);

/* Appends an identifier of letters and digits that is unique over hosts and boots: time, process, serial, random. */
int clock_unique(struct clock *c, struct buf *out);

/* Offset of local time from UTC in minutes at `when` (frozen clocks live in UTC). */
int clock_utc_offset(const struct clock *c, int64_t when);

/* Appends `when` as RFC 5322 3.3 date-time in local time, "Sat, 14 Nov 2026 12:00:00 +0100". */
int clock_rfc5322(const struct clock *c, int64_t when, struct buf *out);

/* Appends `when` in UTC as asctime() writes it, "Sat Nov 14 12:00:00 2026": the date of a From_ line (RFC 4155). */
int clock_asctime(int64_t when, struct buf *out);

/* Reads a date-time of RFC 3339 5.6, "2026-11-14T12:00:00+01:00" or with Z (a fraction is dropped), as seconds since
 * 1970. 0 or -EINVAL. */
int clock_parse_rfc3339(struct str s, int64_t *ret);

#endif
