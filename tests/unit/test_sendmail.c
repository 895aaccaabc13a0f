/* sendmail(8): its command line, what it reads, what it makes of a header. Input is also fed byte by byte. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "handlers/sendmail/compose.h"
#include "handlers/sendmail/input.h"
#include "handlers/sendmail/options.h"
#include "handlers/sendmail/qualify.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"

/* ---- options ---- */

static int parse(struct sendmail_options *o, const char *line)
{
    static char copy[1024];
    static char *argv[32];
    const char *wrong = NULL;
    int argc = 0;

    assert_true(strlen(line) < sizeof(copy));
    memcpy(copy, line, strlen(line) + 1);
    for (char *p = copy; *p;) {
        argv[argc++] = p;
        p += strcspn(p, " ");
        if (*p)
            *p++ = '\0';
    }
    argv[argc] = NULL;
    return options_parse(argc, argv, o, &wrong);
}

static void test_options(void **state)
{
    struct sendmail_options o;

    assert_int_equal(parse(&o, "sendmail -i -FCronDaemon -B8BITMIME -oem user"), 0);
    assert_true(o.ignores_dots && o.errors == SENDMAIL_MAIL && o.recipient_count == 1);
    assert_string_equal(o.full_name, "CronDaemon");
    assert_string_equal(o.body, "8BITMIME");
    assert_string_equal(o.recipients[0], "user");
    assert_int_equal(parse(&o, "sendmail -it -f a@b -o key=value -o i -oee -- -x"), 0);
    assert_true(o.reads_recipients && o.conf_count == 2 && o.errors == SENDMAIL_BERKNET);
    assert_string_equal(o.conf[1], "key=value");
    assert_string_equal(o.recipients[0], "-x");
    assert_int_equal(parse(&o, "sendmail a -i"), 0); /* no option behind the first recipient: an address is no flag */
    assert_true(!o.ignores_dots && o.recipient_count == 2);
    assert_int_equal(parse(&o, "sendmail -oifalse -OIgnoreDots=true -OErrorMode=quiet -odq a"), 0);
    assert_true(o.ignores_dots && o.errors == SENDMAIL_QUIET && o.is_queue_only);
    assert_int_equal(parse(&o, "/usr/sbin/sendmail -bs -odb"), 0);
    assert_int_equal(o.mode, SENDMAIL_SMTP);
    assert_int_equal(parse(&o, "/usr/bin/mailq"), 0);
    assert_int_equal(o.mode, SENDMAIL_LIST);
    assert_int_equal(parse(&o, "newaliases"), 0);
    assert_int_equal(o.mode, SENDMAIL_ALIASES);
    assert_int_equal(parse(&o, "sendmail -q"), 0);
    assert_true(o.mode == SENDMAIL_QUEUE_RUN && o.queue_key == 0);
    assert_int_equal(parse(&o, "sendmail -qRexample.org"), 0);
    assert_true(o.queue_key == 'R' && strcmp(o.queue_text, "example.org") == 0);
    assert_int_equal(parse(&o, "sendmail -bd -q30m"), 0);
    assert_int_equal(o.mode, SENDMAIL_DAEMON);
    assert_int_equal(parse(&o, "sendmail -N success,failure -R hdrs -V id -C /x --epoch=5 a"), 0);
    assert_string_equal(o.returns, "HDRS");
    assert_int_equal(o.conf_count, 3);
}

static void test_options_wrong(void **state)
{
    static const char *const lines[] = {"sendmail -Z",    "sendmail -f",  "sendmail -bx",          "sendmail -B9BIT",
                                        "sendmail -Noft", "sendmail -qX", "sendmail -Rsome",       "sendmail -oeX",
                                        "sendmail -o",    "sendmail -qR", "sendmail -Nnever,delay"};
    struct sendmail_options o;

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        assert_int_equal(parse(&o, lines[i]), -EINVAL);
}

/* ---- input ---- */

static int collect(void *context, struct str bytes)
{
    return buf_add_str(context, bytes);
}

static void check_input(struct str text, bool dots, const char *header, const char *body)
{
    for (size_t piece = 1; piece <= text.len + 1; piece = piece == 1 ? 2 : piece * 3) {
        _cleanup_buf_ struct buf out = BUF_INIT(1u << 20);
        struct input in;

        input_init(&in, dots, collect, &out);
        for (size_t at = 0; at < text.len; at += piece)
            assert_int_equal(input_feed(&in, str_sub(text, at, piece)), 0);
        assert_int_equal(input_end(&in), 0);
        assert_string_equal(buf_cstr(&in.header), header);
        assert_string_equal(buf_cstr(&out), body);
        input_finish(&in);
    }
}

static void test_input(void **state)
{
    check_input(STR("A: b\nC: d\n e\n\nx\ny"), false, "A: b\nC: d\n e\n", "x\ny\n");
    check_input(STR("A: b\r\n\r\nx\r\ry\r\n"), false, "A: b\n", "x\n\ny\n");
    check_input(STR("just text: no\nmore\n"), false, "", "just text: no\nmore\n");
    check_input(STR("A: b\nno field\n"), false, "A: b\n", "no field\n");
    check_input(STR("\nA: b\n"), false, "", "A: b\n");
    check_input(STR(""), false, "", "");
    check_input(STR("A: b"), false, "A: b\n", "");
    check_input(STR("From x y\nA : b\n\n"), false, "A : b\n", "");
    check_input(STR("A: b\nFrom x y\n\n"), false, "A: b\n", "From x y\n\n");
    check_input(STR("A: b\n\nx\n.\ny\n"), false, "A: b\n", "x\n");
    check_input(STR("A: b\n\nx\n.\ny\n"), true, "A: b\n", "x\n.\ny\n");
    check_input(STR("A: b\n\n..\n.x\n."), false, "A: b\n", "..\n.x\n");
    check_input(STR("A: b\n\n..\n.x\n."), true, "A: b\n", "..\n.x\n.\n");
    check_input(STR(".\nx"), false, "", "");
    check_input(STR(" folded\nx"), false, "", " folded\nx\n");
    check_input(STR("A: b\n\nx\0y\0\n"), false, "A: b\n", "xy\n");
}

static void test_input_limits(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(8u << 20);
    _cleanup_free_ char *line = malloc(LIMIT_HEADER + 1);
    struct input in;

    assert_non_null(line);
    memset(line, 'x', LIMIT_HEADER + 1);
    input_init(&in, false, collect, &out);
    assert_int_equal(input_feed(&in, (struct str){line, LIMIT_HEADER + 1}), -E2BIG);
    input_finish(&in);
    input_init(&in, false, collect, &out);
    assert_int_equal(input_feed(&in, STR("A: b\n\n")), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(input_feed(&in, (struct str){line, LIMIT_HEADER}), 0);
    assert_int_equal(input_end(&in), 0);
    assert_int_equal(out.len, 3 * (size_t)LIMIT_HEADER + 1);
    assert_int_equal(in.size, 6 + 3 * (uint64_t)LIMIT_HEADER + 2);
    input_finish(&in);
}

/* ---- addresses ---- */

static void test_qualify(void **state)
{
    static const char *const rows[][2] = {
        {" root", " root@h"},
        {" root (Cron Daemon)", " root@h (Cron Daemon)"},
        {" Root <root>", " Root <root@h>"},
        {" a, b@c, <d>,e", " a@h, b@c, <d@h>,e@h"},
        {" list: a, b; , c", " list: a@h, b@h; , c@h"},
        {" undisclosed-recipients:;", " undisclosed-recipients:;"},
        {" \"a b\", \"x@y\" <z>", " \"a b\"@h, \"x@y\" <z@h>"},
        {" \"a b\"@c", " \"a b\"@c"},
        {" John Doe", " John Doe"},
        {" a!b, c%d", " a!b, c%d@h"},
        {" (c (d) , e) a\n\t, b", " (c (d) , e) a@h\n\t, b@h"},
        {" <>", " <>"},
        {" < a >, <b", " < a >, <b"},
        {" \"open", " \"open@h"},
        {"", ""},
        {" ,,;", " ,,;"},
        {" a\\,b", " a\\,b@h"},
        {" @x:y <a@b>", " @x:y <a@b>"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(1024);

        assert_int_equal(qualify_body(str_from(rows[i][0]), STR("h"), &out), 0);
        assert_string_equal(buf_cstr(&out), rows[i][1]);
    }
}

static void check_address(const char *text, int error, const char *want)
{
    _cleanup_buf_ struct buf out = BUF_INIT(1024);

    assert_int_equal(compose_address(str_from(text), STR("h"), &out), error);
    if (error == 0)
        assert_string_equal(buf_cstr(&out), want);
}

static void test_address(void **state)
{
    check_address("", 0, "");
    check_address("<>", 0, "");
    check_address("bob", 0, "bob@h");
    check_address("<bob@x>", 0, "bob@x");
    check_address("Bob B. <bob@x>", 0, "bob@x");
    check_address("a@x, b@x", -EINVAL, "");
    check_address("list: a@x;", -EINVAL, "");
}

static void check_header(const struct compose *c, const char *header, const char *want, const char *recipients)
{
    _cleanup_buf_ struct buf out = BUF_INIT(1u << 20), joined = BUF_INIT(4096);
    struct recipients r = {0};

    assert_int_equal(compose_header(c, str_from(header), &out, &r), 0);
    assert_string_equal(buf_cstr(&out), want);
    for (size_t i = 0; i < r.count; i++)
        assert_int_equal(buf_printf(&joined, "%s%s", i > 0 ? " " : "", r.items[i]), 0);
    assert_string_equal(buf_cstr(&joined), recipients);
    recipients_finish(&r);
}

static void test_header(void **state)
{
    struct compose c = {.sender = STR("al@h"), .full_name = STR("Al"), .domain = STR("h"), .takes_recipients = true};

    check_header(&c, "", "From: Al <al@h>\nTo: undisclosed-recipients:;\n", "");
    check_header(&c, "From: x\nTo: b, B <b@h>\nCC: c@x\nbcc: d,\n e\n", "From: x@h\nTo: b@h, B <b@h>\nCC: c@x\n",
                 "b@h c@x d@h e@h");
    check_header(&c, "From: x\nTo: b\nResent-To: r\nResent-Bcc: s\n", "From: x@h\nTo: b@h\nResent-To: r@h\n",
                 "r@h s@h");
    check_header(&c, "From: x\nBcc: d\n", "From: x@h\nTo: undisclosed-recipients:;\n", "d@h");
    c.takes_recipients = false;
    check_header(&c, "From: x\nTo: list: a;\nReturn-Path: <y>\nContent-Length: 5\n", "From: x@h\nTo: list: a@h;\n", "");
    c.is_gateway = true;
    check_header(&c, "To: b\nBcc: c\n", "To: b\n", "");
    c.is_gateway = false;
    c.full_name = STR("J\xc3\xbcrgen");
    check_header(&c, "To: b@x\n", "To: b@x\nFrom: =?utf-8?B?SsO8cmdlbg==?= <al@h>\n", "");
    c.full_name = STR("A. \"B\"");
    check_header(&c, "To: b@x\n", "To: b@x\nFrom: \"A. \\\"B\\\"\" <al@h>\n", "");
    c.full_name = STR("");
    check_header(&c, "To: b@x\n", "To: b@x\nFrom: al@h\n", "");
    c.sender = STR("");
    check_header(&c, "To: b@x\n", "To: b@x\nFrom: Mail Delivery System <MAILER-DAEMON@h>\n", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),      cmocka_unit_test(test_options_wrong), cmocka_unit_test(test_input),
        cmocka_unit_test(test_input_limits), cmocka_unit_test(test_qualify),       cmocka_unit_test(test_address),
        cmocka_unit_test(test_header),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
