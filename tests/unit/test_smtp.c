/*
 * The parsers of SMTP: paths, parameters, internationalised domains, trace field, answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above */
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "shared/route/answer.h"
#include "shared/route/idna.h"
#include "handlers/smtp/param.h"
#include "shared/route/path.h"
#include "handlers/smtp/received.h"
#include "shared/base/macros.h"

/* ---- paths ---- */

struct path_case {
    const char *input;
    unsigned flags;
    int result;
    const char *local;
    const char *domain;
};

static const struct path_case PATHS[] = {
    {"<a@b>", 0, 0, "a", "b"},
    {"<user@example.org>", 0, 0, "user", "example.org"},
    {"<first.last@example.org>", 0, 0, "first.last", "example.org"},
    {"<!#$%&'*+-/=?^_`{|}~@example.org>", 0, 0, "!#$%&'*+-/=?^_`{|}~", "example.org"},
    {"<\"quoted part\"@example.org>", 0, 0, "quoted part", "example.org"},
    {"<\"a\\\"b\\\\c\"@example.org>", 0, 0, "a\"b\\c", "example.org"},
    {"<\"\"@example.org>", 0, 0, "", "example.org"},
    {"<a@[192.0.2.1]>", 0, 0, "a", "[192.0.2.1]"},
    {"<a@[IPv6:2001:db8::1]>", 0, 0, "a", "[IPv6:2001:db8::1]"},
    {"<a@[x-tag:content]>", 0, 0, "a", "[x-tag:content]"},
    {"<@x.org,@y.org:a@b>", 0, 0, "a", "b"},
    {"<@[192.0.2.1]:a@b>", 0, 0, "a", "b"},
    {"<>", PATH_NULL_OK, 0, "", ""},
    {"<postmaster>", PATH_POSTMASTER_OK, 0, "postmaster", ""},
    {"<PostMaster>", PATH_POSTMASTER_OK, 0, "PostMaster", ""},
    {"<alice>", PATH_BARE_OK, 0, "alice", ""},
    {"<a@xn--bcher-kva.example>", 0, 0, "a", "xn--bcher-kva.example"},
    {"<\xc3\xbc@b\xc3\xbc"
     "cher.example>",
     PATH_UTF8, 0, "\xc3\xbc",
     "b\xc3\xbc"
     "cher.example"},
    {"<a@1.2.3.4>", 0, 0, "a", "1.2.3.4"},

    {"<>", 0, -EINVAL, NULL, NULL},
    {"", 0, -EINVAL, NULL, NULL},
    {"a@b", 0, -EINVAL, NULL, NULL},
    {"<a@b", 0, -EINVAL, NULL, NULL},
    {"<a@>", 0, -EINVAL, NULL, NULL},
    {"<@b>", 0, -EINVAL, NULL, NULL},
    {"<a>", 0, -EINVAL, NULL, NULL},
    {"<postmaster>", 0, -EINVAL, NULL, NULL},
    {"<a..b@c>", 0, -EINVAL, NULL, NULL},
    {"<.a@c>", 0, -EINVAL, NULL, NULL},
    {"<a.@c>", 0, -EINVAL, NULL, NULL},
    {"<a b@c>", 0, -EINVAL, NULL, NULL},
    {"< a@c>", 0, -EINVAL, NULL, NULL},
    {"<a@c >", 0, -EINVAL, NULL, NULL},
    {"<a@b@c>", 0, -EINVAL, NULL, NULL},
    {"<a@-b>", 0, -EINVAL, NULL, NULL},
    {"<a@b->", 0, -EINVAL, NULL, NULL},
    {"<a@b..c>", 0, -EINVAL, NULL, NULL},
    {"<a@b.>", 0, -EINVAL, NULL, NULL},
    {"<a@b_c>", 0, -EINVAL, NULL, NULL},
    {"<a@[192.0.2.256]>", 0, -EINVAL, NULL, NULL},
    {"<a@[192.0.2.1>", 0, -EINVAL, NULL, NULL},
    {"<a@[]>", 0, -EINVAL, NULL, NULL},
    {"<a@[IPv6:192.0.2.1]>", 0, -EINVAL, NULL, NULL},
    {"<a@[IPv6:fe80::1%eth0]>", 0, -EINVAL, NULL, NULL},
    {"<\"a@b>", 0, -EINVAL, NULL, NULL},
    {"<\"a\"b@c>", 0, -EINVAL, NULL, NULL},
    {"<\"a\\\x01\"@c>", 0, -EINVAL, NULL, NULL},
    {"<a@b\x7f>", 0, -EINVAL, NULL, NULL},
    {"<a\x01@b>", 0, -EINVAL, NULL, NULL},
    {"<\xc3\xbc@b>", 0, -EINVAL, NULL, NULL},
    {"<\xc3@b>", PATH_UTF8, -EINVAL, NULL, NULL},
    {"<@x.org a@b>", 0, -EINVAL, NULL, NULL},
    {"<@x.org,y.org:a@b>", 0, -EINVAL, NULL, NULL},
    {"<@x.org:>", 0, -EINVAL, NULL, NULL},
    {"<a@(comment)b>", 0, -EINVAL, NULL, NULL},
};

static void test_path_table(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(PATHS); i++) {
        const struct path_case *c = &PATHS[i];
        struct str s = str_from(c->input);
        struct smtp_path p = {0};
        int r = path_parse(&s, c->flags, &p);

        if (r != c->result)
            fail_msg("%s: got %d, want %d", c->input, r, c->result);
        if (r < 0) {
            assert_ptr_equal(s.ptr, c->input); /* untouched on failure */
            continue;
        }
        assert_int_equal(s.len, 0);
        assert_true(str_eq(path_local(&p), str_from(c->local)));
        assert_true(str_eq(p.domain, str_from(c->domain)));
    }
}

static void test_path_stops_behind_bracket(void **state)
{
    struct str s = STR("<a@b> SIZE=10");
    struct smtp_path p;

    assert_int_equal(path_parse(&s, 0, &p), 0);
    assert_true(str_eq(s, STR(" SIZE=10")));
    assert_true(str_eq(p.text, STR("a@b")));
    assert_false(p.is_null);
}

static void test_path_lengths(void **state)
{
    char text[400];
    struct smtp_path p;
    struct str s;

    /* RFC 5321 4.5.3.1.3: 256 octets with the brackets are fine, 257 are not. */
    for (int local = 64; local < 260; local++) {
        int n = snprintf(
            text, sizeof(text), "<%.*s@example.org>", local,
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");

        s = (struct str){text, (size_t)n};
        assert_int_equal(path_parse(&s, 0, &p), n <= 256 ? 0 : -ENAMETOOLONG);
    }
    /* A label has 63 octets at most. */
    s = STR("<a@aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff123>");
    assert_int_equal(path_parse(&s, 0, &p), 0);
    s = STR("<a@aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff1234>");
    assert_int_equal(path_parse(&s, 0, &p), -EINVAL);
}

static void test_mailbox(void **state)
{
    struct smtp_path p;

    assert_int_equal(path_parse_mailbox(STR("a@b"), 0, &p), 0);
    assert_int_equal(path_parse_mailbox(STR("a@b>"), 0, &p), -EINVAL);
    assert_int_equal(path_parse_mailbox(STR("a@b "), 0, &p), -EINVAL);
    assert_int_equal(path_parse_mailbox(STR(""), 0, &p), -EINVAL);
    assert_int_equal(path_parse_mailbox(STR(""), PATH_NULL_OK, &p), 0);
    assert_true(p.is_null);
    assert_int_equal(path_parse_mailbox(STR("@x:a@b"), 0, &p), -EINVAL);
}

static void test_helo(void **state)
{
    assert_true(path_is_helo(STR("mail.example.org")));
    assert_true(path_is_helo(STR("WIN_BOX")));
    assert_true(path_is_helo(STR("[192.0.2.1]")));
    assert_true(path_is_helo(STR("[IPv6:2001:db8::1]")));
    assert_true(path_is_helo(STR("192.0.2.1")));
    assert_false(path_is_helo(STR("")));
    assert_false(path_is_helo(STR("two words")));
    assert_false(path_is_helo(STR("a(b)")));
    assert_false(path_is_helo(STR("a;b")));
    assert_false(path_is_helo(STR("a\0b")));
    assert_false(path_is_helo(STR("b\xc3\xbc")));
}

/* ---- internationalised domains ---- */

/* The samples of RFC 3492 7.1 in their UTF-8 form, and simple ones. */
static void test_idna(void **state)
{
    static const struct {
        const char *u, *a;
    } cases[] = {
        {"Example.ORG", "example.org"},
        {"b\xc3\xbc"
         "cher.example",
         "xn--bcher-kva.example"},
        {"stra\xc3\x9f"
         "e.example",
         "xn--strae-oqa.example"},
        {"\xe4\xbb\x96\xe4\xbb\xac\xe4\xb8\xba\xe4\xbb\x80\xe4\xb9\x88\xe4\xb8\x8d\xe8\xaf\xb4\xe4\xb8\xad\xe6\x96\x87",
         "xn--ihqwcrb4cv8a8dqg056pqjye"},
        {"3\xe5\xb9\xb4"
         "b\xe7\xb5\x84\xe9\x87\x91\xe5\x85\xab\xe5\x85\x88\xe7\x94\x9f",
         "xn--3b-ww4c5e180e575a65lsy2b"},
        {"\xf0\x9f\x92\xa9.example", "xn--ls8h.example"},
        {"", ""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(1000);

        assert_int_equal(idna_to_ascii(str_from(cases[i].u), &out), 0);
        assert_string_equal(buf_cstr(&out), cases[i].a);
    }
}

static void test_idna_bad(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(1000);

    assert_int_equal(idna_to_ascii(STR("a\xff"), &out), -EINVAL);
    assert_int_equal(out.len, 0);
}

/* ---- parameters ---- */

static const struct {
    const char *input;
    int code; /* 0: fine */
} MAIL[] = {
    {"", 0},
    {" SIZE=1000", 0},
    {" size=1000 body=8bitmime", 0},
    {" SIZE=99999999999999999999", 0},
    {" BODY=7BIT RET=HDRS ENVID=abc+2B", 0},
    {" SMTPUTF8", 0},
    {" AUTH=<>", 0},
    {"SIZE=1", 501},
    {" SIZE", 501},
    {" SIZE=", 501},
    {" SIZE=-1", 501},
    {" SIZE=1 SIZE=2", 501},
    {" SIZE=999999999999999999999", 501},
    {" BODY=9BIT", 501},
    {" SMTPUTF8=yes", 501},
    {" ENVID=a+2b", 501},
    {" ENVID=a+", 501},
    {" RET=ALL", 501},
    {" =1", 501},
    {" -X=1", 501},
    {" X\x01=1", 501},
    {" SIZE=1=2", 501},
    {" FROB=1", 555},
    {" NOTIFY=NEVER", 555},
};

static void test_mail_params(void **state)
{
    const unsigned offers = OFFER_SIZE | OFFER_8BITMIME | OFFER_SMTPUTF8 | OFFER_AUTH | OFFER_DSN;

    for (size_t i = 0; i < ARRAY_SIZE(MAIL); i++) {
        struct mail_params p;
        struct smtp_answer a = {0};
        int r = param_parse_mail(str_from(MAIL[i].input), offers, &p, &a);

        if ((r == 0) != (MAIL[i].code == 0) || (r < 0 && (int)a.code != MAIL[i].code))
            fail_msg("\"%s\": %d %u", MAIL[i].input, r, a.code);
    }
}

static void test_params_not_offered(void **state)
{
    struct mail_params p;
    struct smtp_answer a;

    assert_int_equal(param_parse_mail(STR(" SIZE=1"), 0, &p, &a), -EINVAL);
    assert_int_equal(a.code, 555);
}

static void test_rcpt_params(void **state)
{
    static const struct {
        const char *input;
        bool is_fine;
        unsigned notify;
    } cases[] = {
        {"", true, 0},
        {" NOTIFY=NEVER", true, QUEUE_NOTIFY_NEVER},
        {" NOTIFY=SUCCESS,delay ORCPT=rfc822;a+40b", true, QUEUE_NOTIFY_SUCCESS | QUEUE_NOTIFY_DELAY},
        {" NOTIFY=NEVER,FAILURE", false, 0},
        {" NOTIFY=", false, 0},
        {" NOTIFY=SUCCESS,", false, 0},
        {" NOTIFY=SUCCESS,SUCCESS", false, 0},
        {" ORCPT=rfc822", false, 0},
        {" ORCPT=;a", false, 0},
        {" ORCPT=rfc822;a+4", false, 0},
        {" ORCPT=rfc822;\303\251", false, 0},
        {" ORCPT=utf-8;\303\251@b", true, 0},
        {" ORCPT=utf-8;\\x{E9}@b", true, 0},
        {" ORCPT=utf-8;\\x{9}@b", false, 0},
        {" ORCPT=utf-8;\\x{D800}@b", false, 0},
        {" ORCPT=utf-8;a+b", false, 0},
        {" ORCPT=utf-8;\303", false, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct rcpt_params p;
        struct smtp_answer a;
        int r = param_parse_rcpt(str_from(cases[i].input), OFFER_DSN, &p, &a);

        if ((r == 0) != cases[i].is_fine || (r == 0 && p.notify != cases[i].notify))
            fail_msg("\"%s\": %d", cases[i].input, r);
    }
}

/* ---- trace field ---- */

static void test_received(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(2000);
    struct clock clock = {.is_frozen = true, .epoch = 1700000000};
    struct received r = {.helo = STR("mail.example.org"),
                         .peer = STR("2001:db8::1"),
                         .by = STR("mx.example.net"),
                         .id = STR("ID1"),
                         .recipient = STR("bob@example.net"),
                         .cipher = STR("TLS_AES_256_GCM_SHA384"),
                         .when = 1700000000,
                         .is_esmtp = true,
                         .is_tls = true,
                         .is_authenticated = true};

    assert_int_equal(received_format(&r, &clock, &out), 0);
    assert_string_equal(buf_cstr(&out), "Received: from mail.example.org ([IPv6:2001:db8::1])\n"
                                        "\tby mx.example.net (Pennypost) with ESMTPSA\n"
                                        "\tid ID1\n"
                                        "\tfor <bob@example.net>\n"
                                        "\ttls TLS_AES_256_GCM_SHA384;\n"
                                        "\tTue, 14 Nov 2023 22:13:20 +0000\n");
}

static void test_received_minimal(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(2000);
    struct clock clock = {.is_frozen = true, .epoch = 1700000000};
    struct received r = {
        .helo = STR("me"), .by = STR("here"), .id = STR("ID1"), .uid = 1000, .when = 1700000000, .is_utf8 = true};

    assert_int_equal(received_format(&r, &clock, &out), 0);
    assert_string_equal(buf_cstr(&out), "Received: from me\n"
                                        "\tby here (Pennypost, from uid 1000) with UTF8SMTP\n"
                                        "\tid ID1;\n"
                                        "\tTue, 14 Nov 2023 22:13:20 +0000\n");
}

/* ---- answers ---- */

static void test_answer(void **state)
{
    struct smtp_answer a;

    assert_int_equal(answer_parse(STR("250 2.1.5 Delivered"), &a), 0);
    assert_int_equal(a.code, 250);
    assert_string_equal(a.enhanced, "2.1.5");
    assert_string_equal(a.text, "Delivered");
    assert_int_equal(answer_parse(STR("250 5.1.5 Delivered"), &a), -EBADMSG);
    assert_int_equal(answer_parse(STR("250 2.1 Delivered"), &a), -EBADMSG);
    assert_int_equal(answer_parse(STR("250 2.1.1234 x"), &a), -EBADMSG);
    assert_int_equal(answer_parse(STR("150 2.1.5 x"), &a), -EBADMSG);
    assert_int_equal(answer_parse(STR("hello"), &a), -EBADMSG);
    assert_int_equal(answer_parse(STR("450 4.2.0 two\rlines"), &a), -EBADMSG);
    answer_set(&a, 250, "2.0.0", "a%sb", "\r\n");
    assert_string_equal(a.text, "a??b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path_table),
        cmocka_unit_test(test_path_stops_behind_bracket),
        cmocka_unit_test(test_path_lengths),
        cmocka_unit_test(test_mailbox),
        cmocka_unit_test(test_helo),
        cmocka_unit_test(test_idna),
        cmocka_unit_test(test_idna_bad),
        cmocka_unit_test(test_mail_params),
        cmocka_unit_test(test_params_not_offered),
        cmocka_unit_test(test_rcpt_params),
        cmocka_unit_test(test_received),
        cmocka_unit_test(test_received_minimal),
        cmocka_unit_test(test_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
