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
