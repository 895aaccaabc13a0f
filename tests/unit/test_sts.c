/*
 * shared/sts: the texts of MTA-STS (RFC 8461), kept policies.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/base/macros.h"
#include "shared/io/frame_types.h"
#include "shared/sts/cache.h"
#include "shared/sts/sts.h"

/* ---- records (3.1) ---- */

static void good_records(void **state)
{
    static const struct {
        const char *text, *id;
    } rows[] = {
        {"v=STSv1; id=20160831085700Z;", "20160831085700Z"},
        {"v=STSv1;id=1", "1"},
        {"v=STSv1 ; id=a ;", "a"},
        {"v=STSv1; x=y=z; id=a; id=b", "a"}, /* the first of what stands twice */
        {"v=STSv1;\tid=12345678901234567890123456789012", "12345678901234567890123456789012"},
    };
    char id[STS_ID + 1];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_true(sts_record_is_ours(str_from(rows[i].text)));
        assert_int_equal(sts_record_parse(str_from(rows[i].text), id), 0);
        assert_string_equal(id, rows[i].id);
    }
}

static void bad_records(void **state)
{
    static const char *const rows[] = {
        "",
        "v=STSv1",
        "v=STSv1;",
        "v=STSv2; id=1",
        "v=stsv1; id=1",
        " v=STSv1; id=1",
        "id=1; v=STSv1",
        "v=STSv1; id=",
        "v=STSv1; id=1-2",
        "v=STSv1; id=123456789012345678901234567890123",
        "v=STSv1; id",
        "v=STSv1;; id=1",
        "v=STSv1; _x=1; id=1",
        "v=STSv1; id=1; a b=c",
        "v=STSv1x; id=1",
    };
    char id[STS_ID + 1];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(sts_record_parse(str_from(rows[i]), id), -EINVAL);
}

/* ---- policies (3.2) ---- */

#define HEAD "version: STSv1\r\nmode: enforce\r\n"

static void good_policies(void **state)
{
    struct sts_policy p;

    assert_int_equal(
        sts_policy_parse(STR(HEAD "mx: Mail.example.com\r\nmx: *.example.net\r\nmx: backupmx.example.com\r\n"
                                  "max_age: 604800\r\n"),
                         &p),
        0);
    assert_int_equal(p.mode, STS_ENFORCE);
    assert_int_equal(p.max_age, 604800);
    assert_int_equal(p.mx_count, 3);
    assert_string_equal(p.mx[0], "mail.example.com");
    assert_string_equal(p.mx[1], "*.example.net");
    /* LF, no last line end, blanks, unknown fields, fields twice */
    assert_int_equal(sts_policy_parse(STR("version:STSv1 \nmode:  testing\nmode: enforce\nx-y: \xc3\xbc z\nmx:a.test\n"
                                          "max_age: 99999999999\nmax_age: 1"),
                                      &p),
                     -EINVAL); /* eleven digits */
    assert_int_equal(sts_policy_parse(STR("version:STSv1 \nmode:  testing\nmode: enforce\nx-y: \xc3\xbc z\nmx:a.test\n"
                                          "max_age: 9999999999\nmax_age: 1"),
                                      &p),
                     0);
    assert_int_equal(p.mode, STS_TESTING);
    assert_int_equal(p.max_age, STS_MAX_AGE);
    assert_int_equal(sts_policy_parse(STR("version: STSv1\nmode: none\nmax_age: 0\n\n"), &p), 0);
    assert_int_equal(p.mode, STS_NONE);
}

static void bad_policies(void **state)
{
    static const char *const rows[] = {
        "",
        HEAD,
        HEAD "max_age: 1\n",
        HEAD "mx: a.test\n",
        "mode: enforce\nmx: a.test\nmax_age: 1\n",
        "version: STSv1\nmx: a.test\nmax_age: 1\n",
        "version: STSv2\nmode: enforce\nmx: a.test\nmax_age: 1\n",
        HEAD "mx: a b\nmax_age: 1\n",
        HEAD "mx: *\nmax_age: 1\n",
        HEAD "mx: a.*.test\nmax_age: 1\n",
        HEAD "mx: *.*.test\nmax_age: 1\n",
        HEAD "mx: b\xc3\xbc.test\nmax_age: 1\n",
        HEAD "mx: a.test\nmax_age: -1\n",
        HEAD "mx: a.test\nmax_age: 1x\n",
        HEAD "mx: a.test\nmax_age: 1\n<html>\n",
        HEAD "mx: a.test\nmax_age: 1\nx y: z\n",
        HEAD "mx: a.test\nmax_age: 1\nx: \xff\n",
        "Mode: enforce\nversion: STSv1\nmx: a.test\nmax_age: 1\n",
        "version: STSv1\nmode: ENFORCE\nmx: a.test\nmax_age: 1\n",
    };
    _cleanup_buf_ struct buf many = BUF_INIT(1u << 20);
    struct sts_policy p = {.max_age = 77};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(sts_policy_parse(str_from(rows[i]), &p), -EINVAL);
    assert_int_equal(p.max_age, 77); /* untouched */
    assert_int_equal(buf_printf(&many, HEAD "max_age: 1\n"), 0);
    for (int i = 0; i <= STS_MX; i++)
        assert_int_equal(buf_printf(&many, "mx: m%d.test\n", i), 0);
    assert_true(sts_policy_parse(buf_str(&many), &p) < 0);
    while (many.len <= STS_BODY)
        assert_int_equal(buf_printf(&many, "extension: something long that says nothing\n"), 0);
    assert_true(sts_policy_parse(buf_str(&many), &p) < 0);
}

/* ---- hosts (4.1) ---- */

static void hosts_that_are_allowed(void **state)
{
    struct sts_policy p;

    assert_int_equal(sts_policy_parse(STR(HEAD "mx: mail.example.com\nmx: *.example.net\nmax_age: 1\n"), &p), 0);
    assert_true(sts_policy_allows(&p, STR("mail.example.com")));
    assert_true(sts_policy_allows(&p, STR("MAIL.example.com.")));
    assert_true(sts_policy_allows(&p, STR("a.Example.net")));
    assert_false(sts_policy_allows(&p, STR("example.net")));
    assert_false(sts_policy_allows(&p, STR("a.b.example.net")));
    assert_false(sts_policy_allows(&p, STR(".example.net")));
    assert_false(sts_policy_allows(&p, STR("xmail.example.com")));
    assert_false(sts_policy_allows(&p, STR("example.com")));
    assert_false(sts_policy_allows(&p, STR("net")));
    assert_false(sts_policy_allows(&p, STR("")));
}

/* ---- frames ---- */

static void policies_as_frames(void **state)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader in;
    struct sts_policy p, q;

    assert_int_equal(sts_policy_parse(STR(HEAD "mx: mail.example.com\nmx: *.example.net\nmax_age: 5\n"), &p), 0);
    frame_begin(&f, FRAME_STS_POLICY);
    assert_int_equal(sts_policy_put(&f, &p), 0);
    in = frame_read(&f);
    assert_int_equal(sts_policy_get(&in, &q), 0);
    assert_int_equal(q.mx_count, 2);
    assert_string_equal(q.mx[1], "*.example.net");
    /* A liar: no hosts, too many, a bad pattern, a tail. */
    for (int lie = 0; lie < 4; lie++) {
        frame_begin(&f, FRAME_STS_POLICY);
        assert_int_equal(frame_put_u32(&f, lie == 3 ? 7 : STS_ENFORCE), 0);
        assert_int_equal(frame_put_u32(&f, 5), 0);
        assert_int_equal(frame_put_u32(&f, lie == 0 ? 0 : lie == 1 ? STS_MX + 1 : 1), 0);
        assert_int_equal(frame_put_str(&f, lie == 2 ? STR("a\nb") : STR("a.test")), 0);
        in = frame_read(&f);
        assert_int_equal(sts_policy_get(&in, &q), -EBADMSG);
    }
}

/* ---- kept policies ---- */

static void entries_as_text(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(65536);
    struct sts_entry e = {.fetched = 1000, .id = "abc", .failed = 2000, .failed_id = "def"}, again;

    assert_int_equal(sts_policy_parse(STR(HEAD "mx: mail.example.com\nmax_age: 5\n"), &e.policy), 0);
    assert_int_equal(sts_entry_format(&e, &text), 0);
    assert_int_equal(sts_entry_parse(buf_str(&text), &again), 0);
    assert_memory_equal(&e, &again, sizeof(e));
    for (size_t i = 0; i < text.len; i++) /* cut off anywhere */
        assert_int_equal(sts_entry_parse((struct str){text.data, i}, &again), -EINVAL);
    assert_int_equal(sts_entry_parse(STR("pennypost-sts 1\nmode enforce\nend\n"), &again), -EINVAL);
    assert_int_equal(sts_entry_parse(STR("pennypost-sts 2\nend\n"), &again), -EINVAL);
    assert_int_equal(sts_entry_parse(STR("pennypost-sts 1\nfetched 5\nend\n"), &again), -EINVAL);
    assert_int_equal(sts_entry_parse(STR("pennypost-sts 1\nmx ../x\nend\n"), &again), -EINVAL);
    assert_int_equal(sts_entry_parse(STR("pennypost-sts 1\nend\n"), &again), 0);
}

static void entries_in_files(void **state)
{
    char folder[] = "/tmp/pennypost-sts-XXXXXX";
    char path[sizeof(folder) + 32];
    struct sts_entry e = {.fetched = 1000, .id = "abc", .policy = {.mode = STS_NONE, .max_age = 9}}, again;
    struct conf conf;

    assert_non_null(mkdtemp(folder));
    assert_int_equal(conf_init(&conf), 0);
    assert_int_equal(conf_set(&conf, STR("sts_cache"), str_from(folder)), 0);
    assert_int_equal(sts_cache_read(&conf, "a.test", &again), -ENOENT);
    assert_int_equal(sts_cache_write(&conf, "a.test", &e), 0);
    assert_int_equal(sts_cache_read(&conf, "a.test", &again), 0);
    assert_memory_equal(&e, &again, sizeof(e));
    for (int i = 0; i < 2; i++) { /* left by one that was killed; by one that is at work */
        const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = 1, .tv_nsec = i == 0 ? 0 : UTIME_NOW}};

        (void)snprintf(path, sizeof(path), "%s/.new-%d", folder, i);
        assert_int_equal(mknod(path, S_IFREG | 0600, 0), 0);
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    }
    assert_int_equal(sts_cache_write(&conf, "a.test", &e), 0);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(path, sizeof(path), "%s/.new-0", folder);
    assert_int_equal(unlink(path), -1);
    assert_int_equal(chmod(folder, 0777), 0);
    assert_int_equal(sts_cache_read(&conf, "a.test", &again), -EPERM); /* others could write it */
    assert_int_equal(chmod(folder, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/a.test", folder);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_true(sts_cache_read(&conf, "a.test", &again) < 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    conf_finish(&conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_records),           cmocka_unit_test(bad_records),
        cmocka_unit_test(good_policies),          cmocka_unit_test(bad_policies),
        cmocka_unit_test(hosts_that_are_allowed), cmocka_unit_test(policies_as_frames),
        cmocka_unit_test(entries_as_text),        cmocka_unit_test(entries_in_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
