#include "shared/base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "shared/base/secret.h"

static const char *const DAYS[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char *const MONTHS[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

int64_t clock_now(const struct clock *c)
{
    return c->is_frozen ? c->epoch : (int64_t)time(NULL);
}

int64_t clock_monotonic_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int clock_unique(struct clock *c, struct buf *out)
{
    uint64_t random = 0;
    struct timespec now = {.tv_sec = c->epoch};
    uint64_t process = 0;

    c->serial++;
    if (!c->is_frozen) {
        int r = secret_random(&random, sizeof(random));

        if (r < 0)
            return r;
        (void)clock_gettime(CLOCK_REALTIME, &now);
        process = (uint64_t)getpid();
    }
    return buf_printf(out, "%" PRIX64 "P%" PRIX64 "N%" PRIX64 "R%" PRIX64,
                      (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000, process, c->serial, random);
}

int clock_utc_offset(const struct clock *c, int64_t when)
{
    time_t t = (time_t)when;
    struct tm local;

    if (c->is_frozen || !localtime_r(&t, &local))
        return 0;
    return (int)(local.tm_gmtoff / 60);
}

/* Broken-down time at `when` seconds; years outside four digits (a corrupt date) are shown as the epoch. */
static struct tm break_down(int64_t when)
{
    time_t t = (time_t)when;
    struct tm tm;

    if (!gmtime_r(&t, &tm) || tm.tm_year < 0 || tm.tm_year > 9999 - 1900) {
        t = 0;
        (void)gmtime_r(&t, &tm);
    }
    return tm;
}

int clock_rfc5322(const struct clock *c, int64_t when, struct buf *out)
{
    int offset = clock_utc_offset(c, when);
    int minutes = offset < 0 ? -offset : offset;
    struct tm tm = break_down(when + (int64_t)offset * 60);

    return buf_printf(out, "%s, %02d %s %04d %02d:%02d:%02d %c%02d%02d", DAYS[tm.tm_wday], tm.tm_mday,
                      MONTHS[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec, offset < 0 ? '-' : '+',
                      minutes / 60, minutes % 60);
}

int clock_asctime(int64_t when, struct buf *out)
{
    struct tm tm = break_down(when);

    return buf_printf(out, "%s %s %2d %02d:%02d:%02d %04d", DAYS[tm.tm_wday], MONTHS[tm.tm_mon], tm.tm_mday, tm.tm_hour,
                      tm.tm_min, tm.tm_sec, tm.tm_year + 1900);
}

/* Two or four digits at `at`; -1: they are none. */
static int digits_at(struct str s, size_t at, size_t count)
{
    uint32_t n;

    return at + count > s.len || str_to_u32(str_sub(s, at, count), &n) < 0 ? -1 : (int)n;
}

/* "Z" or "+hh:mm" in minutes. */
static int parse_offset(struct str s, int *ret)
{
    int hours = digits_at(s, 1, 2), minutes = digits_at(s, 4, 2);

    if (s.len == 1 && ascii_upper(s.ptr[0]) == 'Z') {
        *ret = 0;
        return 0;
    }
    if (s.len != 6 || (s.ptr[0] != '+' && s.ptr[0] != '-') || s.ptr[3] != ':' || hours < 0 || hours > 23 ||
        minutes < 0 || minutes > 59)
        return -EINVAL;
    *ret = (s.ptr[0] == '-' ? -1 : 1) * (hours * 60 + minutes);
    return 0;
}

int clock_parse_rfc3339(struct str s, int64_t *ret)
{
    static const struct {
        size_t at, count;
        int least, most;
    } fields[] = {{0, 4, 1970, 9999}, {5, 2, 1, 12}, {8, 2, 1, 31}, {11, 2, 0, 23}, {14, 2, 0, 59}, {17, 2, 0, 60}};
    static const char marks[] = "    -  -  T  :  :";
    int n[ARRAY_SIZE(fields)], offset = 0;
    struct tm tm, back;
    time_t t;

    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        n[i] = digits_at(s, fields[i].at, fields[i].count);
        if (n[i] < fields[i].least || n[i] > fields[i].most)
            return -EINVAL;
    }
    for (size_t i = 0; marks[i]; i++)
        if (marks[i] != ' ' && ascii_upper(s.ptr[i]) != marks[i])
            return -EINVAL;
    s = str_sub(s, 19, s.len);
    if (s.len > 1 && s.ptr[0] == '.') /* a fraction */
        do
            s = str_sub(s, 1, s.len);
        while (s.len > 0 && ascii_is_digit(s.ptr[0]));
    if (parse_offset(s, &offset) < 0)
        return -EINVAL;
    tm = (struct tm){
        .tm_year = n[0] - 1900, .tm_mon = n[1] - 1, .tm_mday = n[2], .tm_hour = n[3], .tm_min = n[4], .tm_sec = n[5]};
    t = timegm(&tm);
    if (!gmtime_r(&t, &back) || (n[5] < 60 && back.tm_mday != n[2])) /* the 31st of a short month */
        return -EINVAL;
    *ret = (int64_t)t - (int64_t)offset * 60;
    return 0;
}
