/* Unit tests of shared/base: views, buffers, sets of numbers, configuration, clock. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shared/base/buf.h"
#include "shared/base/clock.h"
#include "shared/base/conf.h"
#include "shared/base/limits.h"
#include "shared/base/numset.h"
#include "shared/base/secret.h"

static void str_numbers(void **state)
{
    uint32_t n = 7;
    uint64_t m = 7;

    assert_int_equal(str_to_u32(STR("4294967295"), &n), 0);
    assert_int_equal(n, UINT32_MAX);
    assert_int_equal(str_to_u32(STR("4294967296"), &n), -ERANGE);
    assert_int_equal(n, UINT32_MAX);
    assert_int_equal(str_to_u32(STR(""), &n), -EINVAL);
    assert_int_equal(str_to_u32(STR("-1"), &n), -EINVAL);
    assert_int_equal(str_to_u32(STR("1 "), &n), -EINVAL);
    assert_int_equal(str_to_u64(STR("18446744073709551615"), &m), 0);
    assert_true(m == UINT64_MAX);
    assert_int_equal(str_to_u64(STR("18446744073709551616"), &m), -ERANGE);
}

static void str_taking_apart(void **state)
{
    struct str s = STR(" one  two\t"), word;

    assert_true(str_word(&s, &word) && str_eq(word, STR("one")));
    assert_true(str_word(&s, &word) && str_eq(word, STR("two")));
    assert_false(str_word(&s, &word));

    struct str pair = STR("a=b=c"), head;

    assert_true(str_cut(&pair, '=', &head) && str_eq(head, STR("a")) && str_eq(pair, STR("b=c")));
    assert_true(str_cut(&pair, '=', &head) && str_eq(head, STR("b")));
    assert_false(str_cut(&pair, '=', &head));
    assert_true(str_eq(head, STR("c")) && pair.len == 0);
    assert_true(str_ieq(STR("INBOX"), STR("inbox")) && !str_ieq(STR("\xc4"), STR("\xe4")));
    assert_int_equal(str_ifind(STR("xxAbC"), STR("aBc")), 2);
    assert_int_equal(str_find(STR("xxAbC"), STR("aBc")), -1);
    assert_true(str_eq(str_trim(STR("\r\n x y \t")), STR("x y")));
    assert_true(str_icmp(STR("abc"), STR("ABD")) < 0 && str_cmp(STR("ab"), STR("a")) > 0);
}

static void utf8_sequences(void **state)
{
    assert_true(utf8_valid(STR("Gr\xc3\xbc\xc3\x9f\x65 \xe2\x82\xac \xf0\x9f\x93\xa8")));
    assert_false(utf8_valid(STR("\xc0\xaf")));
    assert_false(utf8_valid(STR("\xe0\x80\xaf")));
    assert_false(utf8_valid(STR("\xed\xa0\x80")));
    assert_false(utf8_valid(STR("\xf4\x90\x80\x80")));
    assert_false(utf8_valid(STR("\xe2\x82")));
    assert_false(utf8_valid(STR("\x80")));
}

static void buf_is_capped(void **state)
{
    struct buf b = BUF_INIT(10);

    assert_int_equal(buf_add_str(&b, STR("1234567890")), 0);
    assert_int_equal(buf_add_byte(&b, 'x'), -ENOBUFS);
    assert_int_equal(buf_printf(&b, "%d", 1), -ENOBUFS);
    assert_string_equal(buf_cstr(&b), "1234567890");
    buf_consume(&b, 4);
    assert_int_equal(buf_add_u64(&b, 1234), 0);
    assert_string_equal(buf_cstr(&b), "5678901234");
    buf_truncate(&b, 2);
    assert_true(str_eq(buf_str(&b), STR("56")));
    buf_consume(&b, 99);
    assert_int_equal(b.len, 0);
    buf_finish(&b);
    assert_string_equal(buf_cstr(&b), "");
    assert_int_equal(buf_reserve(&b, SIZE_MAX), -ENOBUFS);
}

/* Random operations against a plain bitmap. */
static void numset_against_a_model(void **state)
{
    enum { TOP = 200, ROUNDS = 20000 };
    bool model[TOP + 2] = {false};
    struct numset set = NUMSET_INIT;

    srandom(1);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t first = (uint32_t)(random() % TOP) + 1, last = first + (uint32_t)(random() % 12);
        bool is_add = random() % 2 == 0;

        if (last > TOP)
            last = TOP;
        assert_int_equal(is_add ? numset_add(&set, first, last) : numset_remove(&set, first, last), 0);
        for (uint32_t n = first; n <= last; n++)
            model[n] = is_add;

        uint64_t size = 0;

        for (uint32_t n = 1; n <= TOP; n++) {
            assert_int_equal(numset_has(&set, n), model[n]);
            size += model[n];
        }
        assert_int_equal(numset_size(&set), size);
        for (size_t i = 0; i < set.count; i++) {
            assert_true(set.ranges[i].first <= set.ranges[i].last);
            if (i > 0)
                assert_true(set.ranges[i].first > set.ranges[i - 1].last + 1);
        }
    }
    numset_finish(&set);
}

static void numset_text(void **state)
{
    struct numset set = NUMSET_INIT;
    struct buf out = BUF_INIT(100);

    assert_int_equal(numset_parse(STR("7,3:1,4294967295,8"), &set), 0);
    assert_int_equal(numset_print(&set, &out), 0);
    assert_string_equal(buf_cstr(&out), "1:3,7:8,4294967295");
    assert_int_equal(numset_parse(STR(""), &set), -EINVAL);
    assert_int_equal(numset_parse(STR("0"), &set), -EINVAL);
    assert_int_equal(numset_parse(STR("1,"), &set), -EINVAL);
    assert_int_equal(numset_parse(STR("1:*"), &set), -EINVAL);
    assert_int_equal(numset_add(&set, 0, 1), -EINVAL);
    buf_finish(&out);
    numset_finish(&set);
}

static void conf_files_and_overrides(void **state)
{
    char path[] = "conf-test-XXXXXX";
    int fd = mkstemp(path);
    struct conf c;
    char set[] = "message_size=2K", last[] = "stay";
    char *argv[] = {(char[]){"prog"}, (char[]){"-o"}, set, (char[]){"-c"}, path, (char[]){"--epoch=60"}, last,
                    (char[]){"--"},   (char[]){"-o"}, NULL};
    int argc = 9;

    assert_true(fd >= 0);
    assert_true(dprintf(fd, "# comment\nmessage_size = 5\nhostname = mail.example\ndomain = x\npam_session = yes\n") >
                0);
    assert_int_equal(conf_init(&c), 0);
    assert_int_equal(conf_args(&c, &argc, argv), 0);
    assert_int_equal(argc, 4);
    assert_string_equal(argv[1], "stay");
    assert_string_equal(argv[3], "-o");
    assert_null(argv[4]);
    assert_int_equal(c.message_size, 2048);
    assert_string_equal(c.hostname, "mail.example");
    assert_true(c.pam_session && c.clock.is_frozen);
    assert_int_equal(clock_now(&c.clock), 60);
    assert_non_null(strstr(buf_cstr(&c.warnings), "nearest is domains"));

    char *pass[16];
    int count = 0;

    assert_int_equal(conf_pass_on(&c, pass, &count, 16), 0);
    assert_int_equal(count, 5);
    assert_string_equal(pass[4], "--epoch=60");
    assert_int_equal(conf_pass_on(&c, pass, &count, 8), -E2BIG);
    conf_finish(&c);
    (void)close(fd);
    (void)unlink(path);
}

/* What a file with this text leads to: the result of conf_load(), *c filled. */
static int load_text(struct conf *c, const char *text)
{
    char path[] = "conf-test-XXXXXX";
    int fd = mkstemp(path), r;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
    assert_int_equal(conf_init(c), 0);
    r = conf_load(c, path);
    (void)unlink(path);
    return r;
}

static void conf_lines_stand_for_themselves(void **state)
{
    struct conf c;

    assert_int_equal(load_text(&c, "hostname = mail.example\n  domains = example.org\r\n\tmessage_size = 5\r\n"), 0);
    assert_string_equal(c.hostname, "mail.example");
    assert_string_equal(c.domains, "example.org");
    assert_int_equal(c.message_size, 5);
    conf_finish(&c);
    assert_int_equal(load_text(&c, "hostname = mail.example\ndomains = a.example\n    b.example\n"), -EINVAL);
    assert_non_null(strstr(buf_cstr(&c.error), "line 3: not `key = value`"));
    conf_finish(&c);
}

static void conf_lists_go_on(void **state)
{
    struct conf c;
    char text[300];

    assert_int_equal(load_text(&c, "domains = a.example\ndomains += b.example c.example\ndnsbl+=bl.test=127.0.0.2\n"),
                     0);
    assert_string_equal(c.domains, "a.example b.example c.example");
    assert_string_equal(c.dnsbl, "bl.test=127.0.0.2");
    conf_finish(&c);
    assert_int_equal(load_text(&c, "message_size = 1\nmessage_size += 1\n"), -EINVAL);
    conf_finish(&c);
    assert_int_equal(load_text(&c, "submission_senders += any\n"), -EINVAL);
    conf_finish(&c);
    assert_int_equal(load_text(&c, "domain += b.example\n"), 0);
    assert_non_null(strstr(buf_cstr(&c.warnings), "nearest is domains"));
    conf_finish(&c);
    (void)snprintf(text, sizeof(text), "domains = %0250d\n", 0);
    assert_int_equal(load_text(&c, text), -EINVAL);
    assert_non_null(strstr(buf_cstr(&c.error), "line 1: longer than 198 bytes; a list goes on with `key += value`"));
    conf_finish(&c);
}

/* A misspelt word must not leave a check switched off. */
static void conf_knows_the_words(void **state)
{
    static const char *const good[] = {"reverse_dns = Match\n", "helo_checks = own fqdn\nhelo_checks += dns\n",
                                       "helo_checks =\n", "submission_senders = any\n",
                                       "smtp_bare_newline = normalize\n", "reverse_dns = log match\n",
                                       "reverse_dns =\n"};
    static const char *const bad[] = {
        "reverse_dns = mach\n", "submission_senders = own any\n",
        "helo_checks = own,fqdn\n", "submission_senders = all\n", "smtp_bare_newline = normalise\n"};
    struct conf c;

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(load_text(&c, good[i]), 0);
        conf_finish(&c);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(load_text(&c, bad[i]), -EINVAL);
        assert_non_null(strstr(buf_cstr(&c.error), "; known are "));
        conf_finish(&c);
    }
}

static void conf_refuses(void **state)
{
    struct conf c;

    assert_int_equal(conf_init(&c), 0);
    assert_int_equal(conf_set(&c, STR("message_size"), STR("much")), -EINVAL);
    assert_int_equal(conf_set(&c, STR("message_size"), STR("18446744073709551615G")), -EINVAL);
    assert_int_equal(conf_set(&c, STR("plaintext_auth"), STR("maybe")), -EINVAL);
    assert_int_equal(conf_set(&c, STR("spol"), STR("x")), -ENOENT);
    assert_non_null(strstr(buf_cstr(&c.error), "spool"));
    assert_int_equal(conf_load(&c, "does-not-exist"), -ENOENT);
    assert_int_equal(c.message_size, LIMIT_MESSAGE_SIZE);
    assert_int_equal(conf_set(&c, STR("domains"), STR("example.org Example.NET")), 0);
    assert_true(conf_domain_is_ours(&c, STR("EXAMPLE.net")));
    assert_false(conf_domain_is_ours(&c, STR("example.com")));
    conf_finish(&c);
}

static void conf_expands(void **state)
{
    struct buf out = BUF_INIT(100);

    assert_int_equal(conf_expand(STR("%h/mail/%u%%"), STR("bob"), STR("/home/bob"), &out), 0);
    assert_string_equal(buf_cstr(&out), "/home/bob/mail/bob%");
    assert_int_equal(conf_expand(STR("%x"), STR("bob"), STR("/"), &out), -EINVAL);
    assert_int_equal(conf_expand(STR("%"), STR("bob"), STR("/"), &out), -EINVAL);
    buf_finish(&out);
}

static void clock_prints(void **state)
{
    struct clock c = {.is_frozen = true, .epoch = 1794657600};
    struct buf out = BUF_INIT(200);

    assert_int_equal(clock_rfc5322(&c, clock_now(&c), &out), 0);
    assert_string_equal(buf_cstr(&out), "Sat, 14 Nov 2026 12:00:00 +0000");
    buf_clear(&out);
    assert_int_equal(clock_asctime(clock_now(&c) - 10 * 86400, &out), 0);
    assert_string_equal(buf_cstr(&out), "Wed Nov  4 12:00:00 2026");
    buf_clear(&out);
    assert_int_equal(clock_rfc5322(&c, INT64_MAX / 4, &out), 0);
    buf_clear(&out);

    struct buf again = BUF_INIT(200);
    struct clock d = {.is_frozen = true, .epoch = 1794657600};

    assert_int_equal(clock_unique(&c, &out), 0);
    assert_int_equal(clock_unique(&d, &again), 0);
    assert_string_equal(buf_cstr(&out), buf_cstr(&again));
    buf_clear(&again);
    assert_int_equal(clock_unique(&d, &again), 0);
    assert_string_not_equal(buf_cstr(&out), buf_cstr(&again));
    buf_finish(&out);
    buf_finish(&again);
}

static void secrets(void **state)
{
    char random[2][16] = {{0}};

    assert_true(secret_equal(STR("abc"), STR("abc")));
    assert_false(secret_equal(STR("abc"), STR("abd")));
    assert_false(secret_equal(STR("abc"), STR("abcd")));
    assert_int_equal(secret_random(random[0], 16), 0);
    assert_int_equal(secret_random(random[1], 16), 0);
    assert_memory_not_equal(random[0], random[1], 16);
    secret_wipe(random[0], 16);
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(random[0][i], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(str_numbers),
        cmocka_unit_test(str_taking_apart),
        cmocka_unit_test(utf8_sequences),
        cmocka_unit_test(buf_is_capped),
        cmocka_unit_test(numset_against_a_model),
        cmocka_unit_test(numset_text),
        cmocka_unit_test(conf_files_and_overrides),
        cmocka_unit_test(conf_lines_stand_for_themselves),
        cmocka_unit_test(conf_lists_go_on),
        cmocka_unit_test(conf_knows_the_words),
        cmocka_unit_test(conf_refuses),
        cmocka_unit_test(conf_expands),
        cmocka_unit_test(clock_prints),
        cmocka_unit_test(secrets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
