/*
 * From_ lines: read leniently in the date, strictly in being a date at all; written as RFC 4155 wants them.
 * Part of the library: no process of its own.
 */
#include "shared/mbox/fromline.h"

#include <errno.h>
#include <time.h>

#include "shared/base/clock.h"
#include "shared/base/limits.h"

static const char fromline_days[] = "SunMonTueWedThuFriSat";
static const char fromline_months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

/* Index of a three-letter name in a run of such names, or -1. */
static int name_index(const char *names, struct str word)
{
    if (word.len != 3)
        return -1;
    for (int i = 0; names[3 * i] != '\0'; i++)
        if (str_ieq(word, (struct str){names + 3 * (ptrdiff_t)i, 3}))
            return i;
    return -1;
}

static bool number_in(struct str word, uint32_t low, uint32_t high, int *ret)
{
    uint32_t n;

    if (word.len == 0 || word.len > 4 || str_to_u32(word, &n) < 0 || n < low || n > high)
        return false;
    *ret = (int)n;
    return true;
}

/* HH:MM or HH:MM:SS */
static bool read_time(struct str word, struct tm *tm)
{
    struct str head;

    (void)str_cut(&word, ':', &head);
    if (!number_in(head, 0, 23, &tm->tm_hour) || word.len == 0)
        return false;
    if (!str_cut(&word, ':', &head))
        return number_in(head, 0, 59, &tm->tm_min);
    return number_in(head, 0, 59, &tm->tm_min) && number_in(word, 0, 60, &tm->tm_sec);
}

static bool read_year(struct str word, struct tm *tm)
{
    int year;

    if (word.len == 4 && number_in(word, 1900, 9999, &year)) {
        tm->tm_year = year - 1900;
        return true;
    }
    if (word.len == 2 && number_in(word, 0, 99, &year)) {
        tm->tm_year = year < 70 ? year + 100 : year;
        return true;
    }
    return false;
}

/* "+0100", "-0530", or a name of letters; names other than the North American ones count as UTC (RFC 5322 4.3). */
static bool read_zone(struct str word, int *ret_minutes)
{
    static const struct {
        struct str name;
        int hours;
    } zones[] = {{STR("EST"), -5}, {STR("EDT"), -4}, {STR("CST"), -6}, {STR("CDT"), -5}, {STR("MST"), -7},
                 {STR("MDT"), -6}, {STR("PST"), -8}, {STR("PDT"), -7}, {STR("MET"), 1},  {STR("CET"), 1},
                 {STR("MEST"), 2}, {STR("CEST"), 2}, {STR("BST"), 1}};
    int n;

    if (word.len == 5 && (word.ptr[0] == '+' || word.ptr[0] == '-')) {
        if (!number_in(str_sub(word, 1, 4), 0, 2359, &n))
            return false;
        n = n / 100 * 60 + n % 100;
        *ret_minutes = word.ptr[0] == '-' ? -n : n;
        return true;
    }
    if (word.len == 0 || word.len > 5)
        return false;
    for (size_t i = 0; i < word.len; i++)
        if (!ascii_is_alpha(word.ptr[i]))
            return false;
    *ret_minutes = 0;
    for (size_t i = 0; i < ARRAY_SIZE(zones); i++)
        if (str_ieq(word, zones[i].name))
            *ret_minutes = zones[i].hours * 60;
    return true;
}

/* What may follow the date: blanks, a zone, "remote from HOST". */
static bool read_rest(struct str rest, int *minutes)
{
    struct str word;

    if (!str_word(&rest, &word))
        return true;
    if (str_eq(word, STR("remote")))
        return true;
    if (!read_zone(word, minutes))
        return false;
    return !str_word(&rest, &word) || str_eq(word, STR("remote"));
}

/* "Nov 14 12:00:00 2026", with a zone before or after the year. */
static bool read_asctime(struct str rest, struct tm *tm, int *minutes)
{
    struct str word;

    if (!str_word(&rest, &word) || (tm->tm_mon = name_index(fromline_months, word)) < 0)
        return false;
    if (!str_word(&rest, &word) || !number_in(word, 1, 31, &tm->tm_mday))
        return false;
    if (!str_word(&rest, &word) || !read_time(word, tm))
        return false;
    if (!str_word(&rest, &word))
        return false;
    if (!read_year(word, tm)) {
        if (!read_zone(word, minutes) || !str_word(&rest, &word) || !read_year(word, tm))
            return false;
    }
    return read_rest(rest, minutes);
}

/* "14 Nov 2026 12:00:00 +0100", as a few programs write it. */
static bool read_rfc822(struct str rest, struct tm *tm, int *minutes)
{
    struct str word;

    if (!str_word(&rest, &word) || !number_in(word, 1, 31, &tm->tm_mday))
        return false;
    if (!str_word(&rest, &word) || (tm->tm_mon = name_index(fromline_months, word)) < 0)
        return false;
    if (!str_word(&rest, &word) || !read_year(word, tm))
        return false;
    if (!str_word(&rest, &word) || !read_time(word, tm))
        return false;
    return read_rest(rest, minutes);
}

/* timegm(), which looks for the answer by trying. */
static int64_t seconds_of(const struct tm *tm)
{
    int64_t year = tm->tm_year + 1900 - (tm->tm_mon < 2), month = (tm->tm_mon + 10) % 12; /* both from March on */
    int64_t days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + tm->tm_mday - 719469;

    return ((days * 24 + tm->tm_hour) * 60 + tm->tm_min) * 60 + tm->tm_sec;
}

bool fromline_parse(struct str line, struct fromline *ret)
{
    struct str rest;

    if (!str_starts(line, STR("From ")) || line.len > FROMLINE_MAX)
        return false;
    rest = str_sub(line, 5, line.len);
    /* The sender may hold blanks, so every weekday in the line may be the one that begins the date. */
    for (size_t i = 0; i + 3 < rest.len; i++) {
        struct str at = str_sub(rest, i, rest.len);
        struct str day = str_sub(at, 0, 3);
        struct tm tm = {0};
        int minutes = 0;

        if ((i > 0 && rest.ptr[i - 1] != ' ' && rest.ptr[i - 1] != '\t') || name_index(fromline_days, day) < 0)
            continue;
        at = str_sub(at, 3, at.len);
        if (at.len > 0 && at.ptr[0] == ',')
            at = str_sub(at, 1, at.len);
        if (at.len == 0 || (at.ptr[0] != ' ' && at.ptr[0] != '\t'))
            continue;
        if (!read_asctime(at, &tm, &minutes)) {
            tm = (struct tm){0};
            minutes = 0;
            if (!read_rfc822(at, &tm, &minutes))
                continue;
        }
        *ret = (struct fromline){.sender = str_trim(str_sub(rest, 0, i)),
                                 .date = seconds_of(&tm) - minutes * 60,
                                 .offset = (int16_t)minutes};
        return true;
    }
    return false;
}

int fromline_write(struct str sender, int64_t date, struct buf *out)
{
    size_t start = out->len;
    size_t named;
    int r;

    r = buf_add_str(out, STR("From "));
    named = out->len;
    for (size_t i = 0; r == 0 && i < sender.len && i < LIMIT_PATH; i++)
        if ((unsigned char)sender.ptr[i] > ' ' && sender.ptr[i] != 0x7f)
            r = buf_add_byte(out, sender.ptr[i]);
    if (r == 0 && out->len == named)
        r = buf_add_str(out, STR("MAILER-DAEMON"));
    if (r == 0)
        r = buf_add_byte(out, ' ');
    if (r == 0)
        r = clock_asctime(date, out);
    if (r == 0)
        r = buf_add_byte(out, '\n');
    if (r < 0)
        buf_truncate(out, start);
    return r;
}
