/*
 * Dates: RFC 5322 3.3 with the obsolete forms of 4.3 and the sloppy ones seen in mail, and IMAP's date-time and date
 * (RFC 9051 9). A time is seconds since 1970 UTC and the offset in minutes east of UTC that it was written with.
 */
#ifndef MIME_DATE_H
#define MIME_DATE_H

#include <stdint.h>

#include "shared/base/buf.h"

/* A Date: field's body (folds and comments may be in it). -EINVAL: no date can be made out. */
int date_parse(struct str body, int64_t *ret_time, int16_t *ret_offset);

/* IMAP date-time without its quotes: "17-Jul-1996 02:44:25 -0700", day perhaps with a leading blank. Strict: -EINVAL.
 */
int date_parse_imap(struct str text, int64_t *ret_time, int16_t *ret_offset);

/* Appends it, without quotes. 0, -ENOBUFS, -ENOMEM. Years are kept within 0000 to 9999. */
int date_print_imap(int64_t time, int16_t offset, struct buf *out);

/* IMAP date of SEARCH: "1-Feb-1994", without quotes. Strict: -EINVAL. The day as days since 1970-01-01. */
int date_parse_imap_day(struct str text, int32_t *ret_day);

/* The calendar day of a time in its own zone: SINCE, BEFORE, ON, SENT... disregard time and zone (RFC 9051 6.4.4). */
int32_t date_day(int64_t time, int16_t offset);

/* Days since 1970-01-01 of a date of the proleptic Gregorian calendar, month 1 to 12. */
int64_t date_days_from_civil(int64_t year, unsigned month, unsigned day);

#endif
