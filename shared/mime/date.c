/*
 * Dates: see date.h. The parser of Date: fields takes words in any sensible order, since mail has them in all orders.
 */
#include "shared/mime/date.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define DATE_MAX 256 /* bytes of a Date: field that are looked at */

static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

/* RFC 5322 4.3. Letters of the military zones were defined the wrong way round once and all mean -0000 now. */
static const struct {
    const char *name;
    int16_t offset;
} zones[] = {
    {"UT", 0},     {"UTC", 0},    {"GMT", 0},    {"EST", -300},  {"EDT", -240},  {"CST", -360}, {"CDT", -300},
    {"MST", -420}, {"MDT", -360}, {"PST", -480}, {"PDT", -420},  {"BST", 60},    {"WET", 0},    {"WEST", 60},
    {"MET", 60},   {"MEST", 120}, {"CET", 60},   {"CEST", 120},  {"EET", 120},   {"EEST", 180}, {"MSK", 180},
    {"JST", 540},  {"KST", 540},  {"HST", -600}, {"AKST", -540}, {"AKDT", -480},
};

int64_t date_days_from_civil(int64_t year, unsigned month, unsigned day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month > 2 ? (int64_t)month - 3 : (int64_t)month + 9) + 2) / 5 + (int64_t)day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

struct civil {
    int64_t year;
    unsigned month;
    unsigned day;
};

static struct civil civil_from_days(int64_t days)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t of_era = z - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t m = (5 * of_year + 2) / 153;
    struct civil c = {.day = (unsigned)(of_year - (153 * m + 2) / 5 + 1), .month = (unsigned)(m < 10 ? m + 3 : m - 9)};

    c.year = year + era * 400 + (c.month <= 2);
    return c;
}

static bool civil_is_valid(int64_t year, unsigned month, unsigned day)
{
    static const uint8_t lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return month >= 1 && month <= 12 && day >= 1 && day <= lengths[month - 1] + (unsigned)(month == 2 && is_leap) &&
           year >= 0 && year <= 9999;
}

/* Three bytes as a number, letters in lower case. What is no letter does not become one. */
static uint32_t three_letters(const char *p)
{
    return (uint32_t)((unsigned char)p[0] << 16 | (unsigned char)p[1] << 8 | (unsigned char)p[2] | 0x202020);
}

/* 1 to 12 by the first three letters; 0: no month. */
static unsigned month_by_name(struct str word)
{
    uint32_t letters = word.len >= 3 ? three_letters(word.ptr) : 0;

    for (unsigned m = 0; m < 12; m++) {
        if (letters == three_letters(months[m]))
            return m + 1;
    }
    return 0;
}

/* ---- Date: ---- */

struct fields {
    int64_t year; /* -1: not yet */
    unsigned month, day;
    int32_t seconds; /* of the day; -1: no time yet */
    int16_t offset;
    bool has_zone;
    bool is_year_first; /* 2026-11-14: the month is a number too */
};

static size_t digits_length(struct str s)
{
    size_t n = 0;

    while (n < s.len && ascii_is_digit(s.ptr[n]))
        n++;
    return n;
}

static size_t letters_length(struct str s)
{
    size_t n = 0;

    while (n < s.len && ascii_is_alpha(s.ptr[n]))
        n++;
    return n;
}

/* A small number of at most 9 digits at the front, consumed. */
static unsigned take_number(struct str *s, size_t digits)
{
    unsigned n = 0;

    for (size_t i = 0; i < digits && i < 9; i++)
        n = n * 10 + (unsigned)(s->ptr[i] - '0');
    *s = str_sub(*s, digits, s->len);
    return n;
}

/* h:mm[:ss[.fraction]]; dots for colons are seen too. An impossible time counts as midnight (RFC 5256 2.2). */
static void take_time(struct str *s, struct fields *f)
{
    unsigned part[3] = {0};
    unsigned n = 0;

    part[n++] = take_number(s, digits_length(*s));
    while (n < 3 && s->len > 1 && (s->ptr[0] == ':' || s->ptr[0] == '.') && ascii_is_digit(s->ptr[1])) {
        *s = str_sub(*s, 1, s->len);
        part[n++] = take_number(s, digits_length(*s));
    }
    if (s->len > 1 && (s->ptr[0] == '.' || s->ptr[0] == ',') && ascii_is_digit(s->ptr[1])) {
        *s = str_sub(*s, 1, s->len);
        *s = str_sub(*s, digits_length(*s), s->len);
    }
    f->seconds = 0;
    if (part[0] < 24 && part[1] < 60 && part[2] <= 60)
        f->seconds = (int32_t)(part[0] * 3600 + part[1] * 60 + part[2]);
}

/* +hhmm, +hh:mm, +hh behind its sign. */
static void take_offset(struct str *s, bool is_west, struct fields *f)
{
    size_t digits = digits_length(*s);
    unsigned n = take_number(s, digits), minutes;

    if (digits <= 2) {
        n *= 100;
        if (s->len > 2 && s->ptr[0] == ':' && digits_length(str_sub(*s, 1, 2)) == 2) {
            *s = str_sub(*s, 1, s->len);
            n += take_number(s, 2);
        }
    }
    minutes = n / 100 * 60 + n % 100;
    f->has_zone = true;
    f->offset = 0;
    if (n % 100 < 60 && minutes < 24 * 60)
        f->offset = (int16_t)(is_west ? -(int)minutes : (int)minutes);
}

static void take_word(struct str *s, struct fields *f)
{
    struct str word = str_sub(*s, 0, letters_length(*s));
    unsigned month = month_by_name(word);

    *s = str_sub(*s, word.len, s->len);
    if (month && !f->month) {
        f->month = month;
        return;
    }
    if (f->seconds < 0) /* a weekday; the T of 2026-11-14T12:00 */
        return;
    if (str_ieq(word, STR("PM")) && f->seconds < 12 * 3600) {
        f->seconds += 12 * 3600;
    } else if (str_ieq(word, STR("AM")) && f->seconds >= 12 * 3600 && f->seconds < 13 * 3600) {
        f->seconds -= 12 * 3600;
    } else if (!f->has_zone) {
        for (size_t i = 0; i < sizeof(zones) / sizeof(zones[0]); i++) {
            if (str_ieq(word, str_from(zones[i].name))) {
                f->offset = zones[i].offset;
                f->has_zone = f->offset != 0; /* GMT+0100: the number counts */
            }
        }
    }
}

/* A number that is no time: the year, the day, or the month of a date that began with its year. */
static void take_date_number(struct str *s, struct fields *f)
{
    size_t digits = digits_length(*s);
    unsigned n = take_number(s, digits);

    if (digits >= 3 || n > 31 || (f->day && f->month && f->year < 0)) {
        if (f->year < 0) {
            /* RFC 5322 4.3: two digits are 2000 to 2049 and 1950 to 1999, three count from 1900. */
            f->year = digits >= 4 ? n : digits == 3 ? n + 1900 : n < 50 ? n + 2000 : n + 1900;
            f->is_year_first = digits >= 4 && !f->day && !f->month;
        }
    } else if (f->is_year_first && !f->month) {
        f->month = n;
    } else if (!f->day) {
        f->day = n;
    }
}

/* The text without comments; `text` has room for it. */
static struct str strip_comments(struct str s, char *text)
{
    unsigned depth = 0;
    size_t len = 0;

    if (str_chr(s, '(') < 0)
        return s;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\\' && depth)
            i++;
        else if (s.ptr[i] == '(')
            depth++;
        else if (s.ptr[i] == ')' && depth)
            depth--;
        else if (!depth)
            text[len++] = s.ptr[i];
    }
    return (struct str){text, len};
}

static bool is_time(struct str s, const struct fields *f)
{
    size_t n = digits_length(s);

    return f->seconds < 0 && n <= 2 && n + 1 < s.len && ascii_is_digit(s.ptr[n + 1]) &&
           (s.ptr[n] == ':' || (s.ptr[n] == '.' && f->day));
}

/* Takes words and numbers in any order. */
static void take_fields(struct str s, struct fields *f)
{
    while (s.len) {
        char c = s.ptr[0];

        if (ascii_is_digit(c)) {
            if (is_time(s, f))
                take_time(&s, f);
            else
                take_date_number(&s, f);
        } else if (ascii_is_alpha(c)) {
            take_word(&s, f);
        } else {
            s = str_sub(s, 1, s.len);
            if ((c == '+' || c == '-') && f->seconds >= 0 && !f->has_zone && s.len && ascii_is_digit(s.ptr[0]))
                take_offset(&s, c == '-', f);
        }
    }
}

/* Over 99: they are no digits. */
static unsigned two_digits(const char *p)
{
    return ascii_is_digit(p[0]) && ascii_is_digit(p[1]) ? (unsigned)(p[0] - '0') * 10 + (unsigned)(p[1] - '0') : 100;
}

/* "Fri, 21 Nov 1997 09:55:06 -0600", as nearly all mail has it: what take_fields() makes of it, without asking at each
 * byte what it might be. False: another form, or numbers out of their ranges, and nothing is taken. */
static bool take_usual_form(struct str s, struct fields *f)
{
    unsigned day, month, century, year, hour, minute, second, zone_hour, zone_minute;
    const char *p = s.ptr;

    if (s.len == 31)
        day = two_digits(p + 5);
    else if (s.len == 30 && ascii_is_digit(p[5]))
        day = (unsigned)(p[5] - '0');
    else
        return false;
    /* A weekday that is a month counts as one. */
    if (letters_length(str_sub(s, 0, 4)) != 3 || p[3] != ',' || p[4] != ' ' || month_by_name(s))
        return false;
    p += s.len - 24;
    if (p[0] != ' ' || p[4] != ' ' || p[9] != ' ' || p[12] != ':' || p[15] != ':' || p[18] != ' ' ||
        (p[19] != '+' && p[19] != '-'))
        return false;
    month = month_by_name((struct str){p + 1, 3});
    century = two_digits(p + 5);
    year = two_digits(p + 7);
    hour = two_digits(p + 10);
    minute = two_digits(p + 13);
    second = two_digits(p + 16);
    zone_hour = two_digits(p + 20);
    zone_minute = two_digits(p + 22);
    if (day < 1 || day > 31 || month < 1 || century > 99 || year > 99 || hour > 23 || minute > 59 || second > 60 ||
        zone_hour > 23 || zone_minute > 59)
        return false;
    *f = (struct fields){.year = century * 100 + year, .month = month, .day = day};
    f->seconds = (int32_t)(hour * 3600 + minute * 60 + second);
    f->offset = (int16_t)(zone_hour * 60 + zone_minute);
    if (p[19] == '-')
        f->offset = (int16_t)-f->offset;
    return true;
}

int date_parse(struct str body, int64_t *ret_time, int16_t *ret_offset)
{
    _uninitialized_ char text[DATE_MAX]; /* written before it is read */
    struct fields f = {.year = -1, .seconds = -1};
    struct str s = strip_comments(str_sub(str_trim(body), 0, DATE_MAX), text);

    if (!take_usual_form(str_trim(s), &f)) /* trimmed again: a comment may have followed */
        take_fields(s, &f);
    if (!civil_is_valid(f.year, f.month, f.day))
        return -EINVAL;
    *ret_time =
        date_days_from_civil(f.year, f.month, f.day) * 86400 + (f.seconds > 0 ? f.seconds : 0) - (int64_t)f.offset * 60;
    *ret_offset = f.offset;
    return 0;
}

/* ---- IMAP ---- */

/* d-Mon-yyyy with one or two digits of the day, consumed. */
static int take_imap_date(struct str *s, size_t day_digits, int64_t *ret_days)
{
    struct civil c = {0};

    c.day = take_number(s, day_digits);
    if (s->len < 9 || s->ptr[0] != '-' || s->ptr[4] != '-' || digits_length(str_sub(*s, 5, 4)) != 4)
        return -EINVAL;
    c.month = month_by_name(str_sub(*s, 1, 3));
    *s = str_sub(*s, 5, s->len);
    c.year = take_number(s, 4);
    if (!civil_is_valid(c.year, c.month, c.day))
        return -EINVAL;
    *ret_days = date_days_from_civil(c.year, c.month, c.day);
    return 0;
}

int date_parse_imap(struct str text, int64_t *ret_time, int16_t *ret_offset)
{
    struct str s = text;
    unsigned h, m, sec, zone;
    int64_t days;
    bool is_west;
    int r;

    if (s.len != 26)
        return -EINVAL;
    if (s.ptr[0] == ' ')
        s = str_sub(s, 1, s.len);
    if (digits_length(s) != s.len - 24)
        return -EINVAL;
    r = take_imap_date(&s, s.len - 24, &days);
    if (r)
        return r;
    if (s.len != 15 || s.ptr[0] != ' ' || digits_length(str_sub(s, 1, 2)) != 2 || s.ptr[3] != ':' ||
        digits_length(str_sub(s, 4, 2)) != 2 || s.ptr[6] != ':' || digits_length(str_sub(s, 7, 2)) != 2 ||
        s.ptr[9] != ' ' || (s.ptr[10] != '+' && s.ptr[10] != '-') || digits_length(str_sub(s, 11, 4)) != 4)
        return -EINVAL;
    is_west = s.ptr[10] == '-';
    s = str_sub(s, 1, s.len);
    h = take_number(&s, 2);
    s = str_sub(s, 1, s.len);
    m = take_number(&s, 2);
    s = str_sub(s, 1, s.len);
    sec = take_number(&s, 2);
    s = str_sub(s, 2, s.len);
    zone = take_number(&s, 4);
    if (h > 23 || m > 59 || sec > 60 || zone % 100 > 59 || zone > 2359)
        return -EINVAL;
    zone = zone / 100 * 60 + zone % 100;
    *ret_offset = (int16_t)(is_west ? -(int)zone : (int)zone);
    *ret_time = days * 86400 + h * 3600 + m * 60 + sec - (int64_t)*ret_offset * 60;
    return 0;
}

int date_parse_imap_day(struct str text, int32_t *ret_day)
{
    size_t digits = digits_length(text);
    struct str s = text;
    int64_t days;
    int r;

    if (digits < 1 || digits > 2 || s.len != digits + 9)
        return -EINVAL;
    r = take_imap_date(&s, digits, &days);
    if (!r)
        *ret_day = (int32_t)days;
    return r;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

int32_t date_day(int64_t time, int16_t offset)
{
    int64_t days =
        floor_div(time, 86400) + floor_div(time - floor_div(time, 86400) * 86400 + (int64_t)offset * 60, 86400);

    return days > INT32_MAX ? INT32_MAX : days < INT32_MIN ? INT32_MIN : (int32_t)days;
}

int date_print_imap(int64_t time, int16_t offset, struct buf *out)
{
    int64_t first = date_days_from_civil(0, 1, 2) * 86400, last = date_days_from_civil(9999, 12, 30) * 86400;
    int64_t t = time < first ? first : time > last ? last : time;
    int zone = offset > 1439 ? 1439 : offset < -1439 ? -1439 : offset;
    struct civil c;
    int64_t sec;

    t += (int64_t)zone * 60;
    c = civil_from_days(floor_div(t, 86400));
    sec = t - floor_div(t, 86400) * 86400;
    return buf_printf(out, "%2u-%s-%04d %02d:%02d:%02d %c%02d%02d", c.day, months[c.month - 1], (int)c.year,
                      (int)(sec / 3600), (int)(sec / 60 % 60), (int)(sec % 60), zone < 0 ? '-' : '+',
                      (zone < 0 ? -zone : zone) / 60, (zone < 0 ? -zone : zone) % 60);
}
