/* Unit tests of shared/mime/date: Date: fields of all sorts, IMAP's date-time and date. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <time.h>

#include "shared/mime/date.h"

#define NOON 1794654000 /* Sat, 14 Nov 2026 11:00:00 UTC */

static const struct {
    const char *text;
    int64_t time;
    int16_t offset;
} dates[] = {
    {"Sat, 14 Nov 2026 12:00:00 +0100", NOON, 60},
    {" sat , 14 nov 2026 12 : 00", NOON + 3600 - 43200, 0}, /* blanks around the colon: the time is lost, not the day */
    {"14 Nov 2026 12:00 +0100", NOON, 60},
    {"Mar, 14 Nov 2026 12:00:00 +0100", NOON - 245 * 86400, 60}, /* the first month counts */
    {"Sat,\r\n 14 Nov 2026 12:00:00 +0100 (CET (really))", NOON, 60},
    {"Sat, 14 Nov 26 06:00:00 EST", NOON, -300},
    {"14 Nov 2026 03:00:00 PST", NOON, -480},
    {"14 Nov 2026 11:00:00 GMT", NOON, 0},
    {"14 Nov 2026 11:00:00 Z", NOON, 0},
    {"14 Nov 2026 11:00:00 A", NOON, 0},
    {"14 Nov 2026 11:00:00 -0000", NOON, 0},
    {"14 Nov 2026 12:00:00 GMT+0100", NOON, 60},
    {"14 Nov 2026 12:00:00 +01:00", NOON, 60},
    {"Sat Nov 14 11:00:00 2026", NOON, 0},
    {"Sat Nov 14 12:00:00 2026 +0100", NOON, 60},
    {"2026-11-14 11:00:00", NOON, 0},
    {"2026-11-14T11:00:00Z", NOON, 0},
    {"2026-11-14T12:00:00.123+01:00", NOON, 60},
    {"14-Nov-2026 12:00:00 +0100", NOON, 60},
    {"Saturday, November 14, 2026 11:00 AM", NOON, 0},
    {"14 Nov 2026 11.00.00", NOON, 0},
    {"14 Nov 2026 11:00 PM", NOON + 43200, 0},
    {"14 Nov 2026", NOON - 39600, 0},
    {"14 Nov 2026 25:00:00", NOON - 39600, 0},
    {"1 Jan 70 00:00:00 +0000", 0, 0},
    {"31 Dec 1969 23:59:59 +0000", -1, 0},
    {"1 Jan 00 00:00:00 +0000", 946684800, 0},
    {"1 Jan 100 00:00:00 +0000", 946684800, 0},
    {"29 Feb 2000 00:00:00 +0000", 951782400, 0},
    {"31 Dec 1998 23:59:60 +0000", 915148800, 0},
    {"14 Nov 2026 12:00:00 +9999", NOON + 3600, 0},
};

static const char *const no_dates[] = {
    "",     "now", "Sat", "14 Nov",  "29 Feb 2001 00:00:00", "32 Jan 2000", "0 Jan 2000", "11/14/2026", "1 Foo 2000",
    "((((", ")))", "-",   "1 1 1 1", "99999999999999999999",
};

static void date_fields(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(dates); i++) {
        int64_t t = 1;
        int16_t offset = 1;

        if (date_parse(str_from(dates[i].text), &t, &offset) != 0)
            fail_msg("%s", dates[i].text);
        if (t != dates[i].time || offset != dates[i].offset)
            fail_msg("%s: %lld %d", dates[i].text, (long long)t, offset);
    }
    for (size_t i = 0; i < ARRAY_SIZE(no_dates); i++) {
        int64_t t = 1;
        int16_t offset = 1;

        if (date_parse(str_from(no_dates[i]), &t, &offset) != -EINVAL || t != 1 || offset != 1)
            fail_msg("%s", no_dates[i]);
    }
}

/* A comma in front says nothing, but the usual form has none there: then words are taken in any order. */
static void the_usual_form_is_no_other(void **state)
{
    static const char *const usual[] = {"Sat, 14 Nov 2026 12:00:00 +0100", "Thu, 1 Jan 1970 00:00:00 -2359",
                                        "Mon, 29 Feb 2000 23:59:60 +0000 (UTC)"};
    static const char bytes[] = "0123456789:+- ,.(ajnMP\r\xff";
    uint32_t random = 1;

    for (unsigned round = 0; round < 200000; round++) {
        int64_t t = 1, t_any = 1;
        int16_t offset = 1, offset_any = 1;
        char text[64] = ",";
        size_t len = strlen(usual[round % 3]);

        memcpy(text + 1, usual[round % 3], len);
        for (unsigned n = 0; n < round % 4; n++) {
            random = random * 1664525 + 1013904223;
            text[1 + (random >> 16) % len] = bytes[(random >> 8) % (sizeof(bytes) - 1)];
        }
        if (date_parse((struct str){text + 1, len}, &t, &offset) !=
                date_parse((struct str){text, len + 1}, &t_any, &offset_any) ||
            t != t_any || offset != offset_any)
            fail_msg("%s: %lld %d, %lld %d", text, (long long)t, offset, (long long)t_any, offset_any);
    }
}

/* Against the C library, over four centuries. */
static void civil_days(void **state)
{
    for (int64_t day = -100000; day < 200000; day += 37) {
        time_t t = (time_t)day * 86400;
        struct tm tm;

        assert_non_null(gmtime_r(&t, &tm));
        assert_int_equal(date_days_from_civil(tm.tm_year + 1900, (unsigned)tm.tm_mon + 1, (unsigned)tm.tm_mday), day);
    }
}

static void imap_date_times(void **state)
{
    static const struct {
        const char *text;
        int64_t time;
        int16_t offset;
    } good[] = {
        {"14-Nov-2026 12:00:00 +0100", NOON, 60},
        {"17-Jul-1996 02:44:25 -0700", 837596665, -420},
        {" 1-Jan-1970 00:00:00 +0000", 0, 0},
        {"31-dec-1969 23:59:59 +0000", -1, 0},
    };
    static const char *const bad[] = {
        "",
        "1-Jan-1970 00:00:00 +0000",
        "01-Jan-1970 00:00:00 GMT",
        "01-Jan-1970 24:00:00 +0000",
        "01-Jan-1970 00:60:00 +0000",
        "32-Jan-1970 00:00:00 +0000",
        "01-Foo-1970 00:00:00 +0000",
        "01 Jan 1970 00:00:00 +0000",
        "01-Jan-1970 00:00:00 00000",
        "01-Jan-1970 00:00:00 +0060",
        "0 -Jan-1970 00:00:00 +0000",
        "01-Jan-197a 00:00:00 +0000",
    };

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(40);
        int64_t t;
        int16_t offset;

        assert_int_equal(date_parse_imap(str_from(good[i].text), &t, &offset), 0);
        assert_true(t == good[i].time && offset == good[i].offset);
        assert_int_equal(date_print_imap(t, offset, &out), 0);
        assert_int_equal(strcasecmp(buf_cstr(&out), good[i].text), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        int64_t t;
        int16_t offset;

        if (date_parse_imap(str_from(bad[i]), &t, &offset) != -EINVAL)
            fail_msg("%s", bad[i]);
    }
}

static void printing_what_is_printable(void **state)
{
    static const int64_t times[] = {INT64_MIN, INT64_MAX, 0, -62167219200, 253402300799};

    for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
        for (int offset = INT16_MIN; offset <= INT16_MAX; offset += 1093) {
            _cleanup_buf_ struct buf out = BUF_INIT(40);
            int64_t t;
            int16_t o;

            assert_int_equal(date_print_imap(times[i], (int16_t)offset, &out), 0);
            assert_int_equal(date_parse_imap(buf_str(&out), &t, &o), 0);
        }
    }
}

static void imap_days(void **state)
{
    int32_t day;

    assert_int_equal(date_parse_imap_day(STR("1-Jan-1970"), &day), 0);
    assert_int_equal(day, 0);
    assert_int_equal(date_parse_imap_day(STR("14-Nov-2026"), &day), 0);
    assert_int_equal(day, NOON / 86400);
    assert_int_equal(date_parse_imap_day(STR("001-Jan-1970"), &day), -EINVAL);
    assert_int_equal(date_parse_imap_day(STR("1-Jan-70"), &day), -EINVAL);
    assert_int_equal(date_parse_imap_day(STR("1-Jan-1970 "), &day), -EINVAL);
    assert_int_equal(date_parse_imap_day(STR(""), &day), -EINVAL);

    /* RFC 9051 6.4.4: disregarding time and time zone. */
    assert_int_equal(date_day(0, 0), 0);
    assert_int_equal(date_day(-1, 0), -1);
    assert_int_equal(date_day(86399, 60), 1);
    assert_int_equal(date_day(0, -60), -1);
    assert_int_equal(date_day(INT64_MAX, 0), INT32_MAX);
    assert_int_equal(date_day(INT64_MIN, 0), INT32_MIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(date_fields),     cmocka_unit_test(the_usual_form_is_no_other), cmocka_unit_test(civil_days),
        cmocka_unit_test(imap_date_times), cmocka_unit_test(printing_what_is_printable), cmocka_unit_test(imap_days),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
