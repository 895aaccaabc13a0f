/* Unit tests of shared/mime: headers, strings in responses, addresses, ENVELOPE. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>

#include "shared/base/buf.h"
#include "shared/base/limits.h"
#include "shared/mime/addr.h"
#include "shared/mime/downgrade.h"
#include "shared/mime/envelope.h"
#include "shared/mime/header.h"
#include "shared/mime/nstring.h"
#include "tests/unit/imap_syntax.h"

#define MAX (16u << 20)

static void header_ends(void **state)
{
    bool is_whole;

    assert_int_equal(header_length(STR("A: b\r\n\r\nbody"), &is_whole), 8);
    assert_true(is_whole);
    assert_int_equal(header_length(STR("\r\nbody"), &is_whole), 2);
    assert_true(is_whole);
    assert_int_equal(header_length(STR("A: b\n\nbody"), &is_whole), 6);
    assert_true(is_whole);
    assert_int_equal(header_length(STR("A: b\r\n \r\n"), &is_whole), 9);
    assert_false(is_whole);
    assert_int_equal(header_length(STR(""), NULL), 0);
}

static void fields_one_by_one(void **state)
{
    struct header_iter i =
        header_iterate(STR("A: one\r\n\ttwo\r\nno colon\r\nB :x\r\nC D: y\r\n:z\r\n\r\nE: body\r\n"));
    static const char *const expected[][2] = {
        {"A", " one\r\n\ttwo"}, {"", "no colon"}, {"B", "x"}, {"", "C D: y"}, {"", ":z"},
    };
    struct header_field f;

    for (size_t n = 0; n < ARRAY_SIZE(expected); n++) {
        assert_true(header_next(&i, &f));
        assert_true(str_eq(f.name, str_from(expected[n][0])));
        assert_true(str_eq(f.body, str_from(expected[n][1])));
    }
    assert_false(header_next(&i, &f));
}

static void values_on_one_line(void **state)
{
    static const struct {
        struct str body;
        const char *expected;
    } table[] = {
        {{" one\r\n\ttwo  \r\n", 15}, "one\ttwo"},
        {{" a\r\n b\r\n", 9}, "a b"},
        {{"", 0}, ""},
        {{" \r\n ", 4}, ""},
        {{"a\rb\nc", 5}, "a bc"},
        {{"a\0b", 3}, "a b"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(100);

        assert_int_equal(header_unfold(table[i].body, &out), 0);
        assert_string_equal(buf_cstr(&out), table[i].expected);
    }
    _cleanup_buf_ struct buf out = BUF_INIT(3);

    assert_int_equal(header_value(STR("Subject: hi\r\n\r\n"), STR("SUBJECT"), &out), 0);
    assert_string_equal(buf_cstr(&out), "hi");
    assert_int_equal(header_value(STR("Subject: hi\r\n\r\n"), STR("To"), &out), -ENOENT);
    assert_int_equal(header_unfold(STR("long"), &out), -ENOBUFS);
    assert_string_equal(buf_cstr(&out), "hi");
}

static void selection(void **state)
{
    const struct str names[] = {{"SUBJECT", 7}, {"x-a", 3}};
    struct str header = STR("From: a\r\nSubject: b\r\n c\r\njunk\r\nX-A: 1\r\nX-a: 2\r\n\r\n");
    _cleanup_buf_ struct buf out = BUF_INIT(1000);

    assert_int_equal(header_select(header, names, 2, false, &out), 0);
    assert_string_equal(buf_cstr(&out), "Subject: b\r\n c\r\nX-A: 1\r\nX-a: 2\r\n\r\n");
    buf_clear(&out);
    assert_int_equal(header_select(header, names, 2, true, &out), 0);
    assert_string_equal(buf_cstr(&out), "From: a\r\njunk\r\n\r\n");
    buf_clear(&out);
    assert_int_equal(header_select(STR("Subject: cut"), names, 1, false, &out), 0);
    assert_string_equal(buf_cstr(&out), "Subject: cut\r\n\r\n");
    buf_clear(&out);
    assert_int_equal(header_select(header, NULL, 0, false, &out), 0);
    assert_string_equal(buf_cstr(&out), "\r\n");
}

static void collecting(void **state)
{
    static const char *const messages[] = {
        "A: b\r\nC: d\r\n\r\nbody\r\n\r\n", "\r\nbody", "A: b\n\nbody", "A: b\r\n \r\nC: d\r\n",
        "A\r: b\r\n\rx: y\r\n\r\nbody",     "",
    };

    for (size_t m = 0; m < ARRAY_SIZE(messages); m++) {
        struct str message = str_from(messages[m]);
        bool is_whole;
        size_t length = header_length(message, &is_whole);

        for (size_t piece = 1; piece <= message.len + 1; piece++) {
            struct header_collector c;
            size_t taken = 0;

            header_collector_init(&c);
            for (size_t at = 0; at < message.len && !c.is_whole; at += piece) {
                size_t used = 0;

                assert_int_equal(header_collect(&c, str_sub(message, at, piece), &used), 0);
                taken += used;
            }
            assert_int_equal(c.is_whole, is_whole);
            assert_int_equal(taken, length);
            assert_int_equal(c.length, length);
            assert_true(str_eq(buf_str(&c.bytes), str_sub(message, 0, length)));
            header_collector_finish(&c);
        }
    }
}

static void collecting_too_much(void **state)
{
    struct header_collector c;
    char line[] = "X: 0123456789012345678901234567890123456789\r\n";
    size_t used, lines = 2 * LIMIT_HEADER / (sizeof(line) - 1);

    header_collector_init(&c);
    for (size_t i = 0; i < lines; i++)
        assert_int_equal(header_collect(&c, str_from(line), &used), 0);
    assert_int_equal(header_collect(&c, STR(" more\r\n\r\nbody"), &used), 0);
    assert_int_equal(used, 9);
    assert_true(c.is_whole && c.is_cut && c.length == lines * (sizeof(line) - 1) + 9);
    assert_int_equal(c.bytes.len % (sizeof(line) - 1), 0);
    header_collector_clear(&c);
    assert_int_equal(header_collect(&c, STR("A: b\r\n\r\n"), &used), 0);
    assert_true(c.is_whole && !c.is_cut && c.bytes.len == 8);
    header_collector_finish(&c);
}

static void strings(void **state)
{
    static const struct {
        struct str s;
        bool is_utf8;
        const char *expected;
    } table[] = {
        {{"", 0}, false, "\"\""},
        {{"a b", 3}, false, "\"a b\""},
        {{"a\"\\b", 4}, false, "\"a\\\"\\\\b\""},
        {{"a\rb", 3}, false, "{3}\r\na\rb"},
        {{"\xc3\xa4", 2}, false, "{2}\r\n\xc3\xa4"},
        {{"\xc3\xa4", 2}, true, "\"\xc3\xa4\""},
        {{"\xc3\"", 2}, true, "{2}\r\n\xc3\""},
        {{"a\0b\0", 4}, false, "{2}\r\nab"},
        {{NULL, 0}, false, "NIL"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(100);

        assert_int_equal(nstring_add_nil(&out, table[i].s, table[i].is_utf8), 0);
        assert_string_equal(buf_cstr(&out), table[i].expected);
    }
    _cleanup_buf_ struct buf small = BUF_INIT(4);

    assert_int_equal(nstring_add(&small, STR("abc"), false), -ENOBUFS);
    assert_int_equal(small.len, 0);
}

/* name|adl|mailbox|host, - for NIL, entries separated by blanks. */
static void print_list(const struct addr_list *l, struct buf *out)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct str parts[] = {l->items[i].name, l->items[i].adl, l->items[i].mailbox, l->items[i].host};

        for (size_t p = 0; p < 4; p++) {
            if (parts[p].ptr)
                assert_int_equal(buf_printf(out, "%s%.*s", p ? "|" : i ? " ; " : "", STR_ARG(parts[p])), 0);
            else
                assert_int_equal(buf_printf(out, "%s-", p ? "|" : i ? " ; " : ""), 0);
        }
    }
}

static const struct {
    const char *body;
    const char *expected;
} addresses[] = {
    {"", ""},
    {" , ,", ""},
    {"a@b", "-|-|a|b"},
    {"<a@b>", "-|-|a|b"},
    {"John Doe <john@example.org>", "John Doe|-|john|example.org"},
    {"\"Doe, John\" <john@example.org>, x@y", "Doe, John|-|john|example.org ; -|-|x|y"},
    {"john@example.org (John Doe)", "John Doe|-|john|example.org"},
    {"john (or) @ (at) example (dot) . org (last (nested) one)", "last (nested) one|-|john|example.org"},
    {"<a@b> (behind)", "behind|-|a|b"},
    {"\"quoted \\\"name\\\"\" <a@b>", "quoted \"name\"|-|a|b"},
    {"\"john smith\"@b", "-|-|john smith|b"},
    {"\"\"@b", "-|-||b"},
    {"a . b @ c . d", "-|-|a.b|c.d"},
    {"Joe Q. Public <john.q.public@example.com>", "Joe Q. Public|-|john.q.public|example.com"},
    {"<@a,@b:c@d>", "-|@a,@b|c|d"},
    {"X <@a:c@d>", "X|@a|c|d"},
    {"a@[127.0.0.1], b@[IPv6:::1]", "-|-|a|[127.0.0.1] ; -|-|b|[IPv6:::1]"},
    {"A Group:Ed Jones <joe@where.test>,joe@where.test,John <jdoe@one.test>;",
     "-|-|A Group|- ; Ed Jones|-|joe|where.test ; -|-|joe|where.test ; John|-|jdoe|one.test ; -|-|-|-"},
    {"Undisclosed recipients:;", "-|-|Undisclosed recipients|- ; -|-|-|-"},
    {"undisclosed-recipients:", "-|-|undisclosed-recipients|- ; -|-|-|-"},
    {"g: a@b; , c@d", "-|-|g|- ; -|-|a|b ; -|-|-|- ; -|-|c|d"},
    {"a@b; c@d", "-|-|a|b ; -|-|c|d"},
    {"root", "-|-|root|"},
    {"John Doe", "John Doe|-||"},
    {"MAILER-DAEMON <>", "MAILER-DAEMON|-||"},
    {"<>", "-|-||"},
    {"John john@x", "John|-|john|x"},
    {"John <a@b, Jane <c@d>", "John|-|a|b ; Jane|-|c|d"},
    {"John <a@b> junk, c@d", "John|-|a|b ; -|-|c|d"},
    {"\"unclosed <a@b>, c@d", "unclosed|-|a|b ; -|-|c|d"},
    {"(unclosed a@b", "unclosed|-|a|b"},
    {"[List] <a@b>", "[List]|-|a|b"},
    {"a@b@c", "-|-|a@b|c"},
    {"=?utf-8?q?J=C3=B6?= <a@b>", "=?utf-8?q?J=C3=B6?=|-|a|b"},
    {"J\xc3\xb6rg <j\xc3\xb6@b\xc3\xbc>", "J\xc3\xb6rg|-|j\xc3\xb6|b\xc3\xbc"},
    {"A\r\n B <a@\r\n b>", "A B|-|a|b"},
    {"@", "-|-||"},
    {"a@", "-|-|a|"},
    {"@b", "-|-||b"},
    {"<<a@b>>", "-|-|a|b"},
    {"\\", "-|-|\\|"},
    {"\"", ""},
};

static void address_lists(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
        _cleanup_addr_list_ struct addr_list l;
        _cleanup_buf_ struct buf out = BUF_INIT(10000);

        addr_list_init(&l);
        assert_int_equal(addr_parse(str_from(addresses[i].body), &l), 0);
        print_list(&l, &out);
        if (strcmp(buf_cstr(&out), addresses[i].expected) != 0)
            fail_msg("%s:\n got      %s\n expected %s", addresses[i].body, buf_cstr(&out), addresses[i].expected);
    }
}

/* Views of a list stay right while more is added. */
static void address_lists_grow(void **state)
{
    _cleanup_addr_list_ struct addr_list l;
    _cleanup_buf_ struct buf out = BUF_INIT(100000);

    addr_list_init(&l);
    for (int i = 0; i < 500; i++)
        assert_int_equal(addr_parse(STR("N <a@b>"), &l), 0);
    assert_int_equal(l.count, 500);
    for (size_t i = 0; i < l.count; i++) {
        buf_clear(&out);
        assert_true(str_eq(l.items[i].name, STR("N")));
        assert_int_equal(addr_print(&l.items[i], &out), 0);
        assert_string_equal(buf_cstr(&out), "a@b");
    }
}

static void addresses_are_limited(void **state)
{
    _cleanup_addr_list_ struct addr_list l;
    _cleanup_buf_ struct buf body = BUF_INIT(MAX);

    addr_list_init(&l);
    assert_int_equal(buf_add(&body, "g:", 2), 0);
    for (int i = 0; i < LIMIT_ADDRESSES + 10; i++)
        assert_int_equal(buf_add(&body, "a@b,", 4), 0);
    assert_int_equal(addr_parse(buf_str(&body), &l), 0);
    assert_int_equal(l.count, LIMIT_ADDRESSES + 1);
    assert_true(addr_is_group_start(&l.items[0]) && addr_is_group_end(&l.items[LIMIT_ADDRESSES]));
}

/* What could make a parser slow: the time of this test is its point. */
static void addresses_in_linear_time(void **state)
{
    static const char *const units[] = {"\"\\\"", "(", "<", "<@a", "@[", "a<", ":", "\\\"", "a ", "a.", "(\\"};

    for (size_t u = 0; u < ARRAY_SIZE(units); u++) {
        _cleanup_addr_list_ struct addr_list l;
        _cleanup_buf_ struct buf body = BUF_INIT(MAX);

        addr_list_init(&l);
        while (body.len < LIMIT_HEADER_FIELD)
            assert_int_equal(buf_add_str(&body, str_from(units[u])), 0);
        assert_int_equal(addr_parse(buf_str(&body), &l), 0);
        assert_true(l.count <= LIMIT_ADDRESSES + 1);
    }
}

static void printing_addresses(void **state)
{
    static const struct {
        struct addr a;
        const char *expected;
    } table[] = {
        {{.mailbox = {"a.b", 3}, .host = {"c", 1}}, "a.b@c"},
        {{.mailbox = {"a b", 3}, .host = {"c", 1}}, "\"a b\"@c"},
        {{.mailbox = {"a\"", 2}, .host = {"c", 1}}, "\"a\\\"\"@c"},
        {{.mailbox = {".a", 2}, .host = {"c", 1}}, "\".a\"@c"},
        {{.mailbox = {"a..b", 4}, .host = {"c", 1}}, "\"a..b\"@c"},
        {{.mailbox = {"root", 4}, .host = {"", 0}}, "root"},
        {{.mailbox = {"group", 5}}, ""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(100);

        assert_int_equal(addr_print(&table[i].a, &out), 0);
        assert_string_equal(buf_cstr(&out), table[i].expected);
    }
}

#define NIL8 " NIL NIL NIL NIL NIL NIL NIL NIL)"

static const struct {
    const char *header;
    const char *expected;
} envelopes[] = {
    {"", "(NIL NIL" NIL8},
    {"Subject:\r\n\r\n", "(NIL \"\"" NIL8},
    {"SUBJECT: a\r\n\tb\r\nDate: now\r\n\r\nFrom: x@y\r\n", "(\"now\" \"a\tb\"" NIL8},
    {"From: J <a@b>\r\n\r\n",
     "(NIL NIL ((\"J\" NIL \"a\" \"b\")) ((\"J\" NIL \"a\" \"b\")) ((\"J\" NIL \"a\" \"b\")) NIL NIL NIL NIL "
     "NIL)"},
    {"From: a@b\r\nSender: c@d\r\nReply-To:\r\n\r\n",
     "(NIL NIL ((NIL NIL \"a\" \"b\")) ((NIL NIL \"c\" \"d\")) ((NIL NIL \"a\" \"b\")) NIL NIL NIL NIL NIL)"},
    {"To: a@b\r\nTo: c@d\r\nCc: g:;\r\nIn-Reply-To: <x>\r\nMessage-Id: <y>\r\n\r\n",
     "(NIL NIL NIL NIL NIL ((NIL NIL \"a\" \"b\")(NIL NIL \"c\" \"d\")) ((NIL NIL \"g\" NIL)(NIL NIL NIL NIL)) NIL "
     "\"<x>\" \"<y>\")"},
    {"Subject: \xe4\"\r\n\r\n", "(NIL {2}\r\n\xe4\"" NIL8},
};

static void envelope_texts(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(envelopes); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(10000);

        assert_int_equal(envelope_print(str_from(envelopes[i].header), false, &out), 0);
        if (strcmp(buf_cstr(&out), envelopes[i].expected) != 0)
            fail_msg("%s:\n got      %s\n expected %s", envelopes[i].header, buf_cstr(&out), envelopes[i].expected);
        assert_true(is_envelope(buf_str(&out), false));
    }
    for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
        _cleanup_buf_ struct buf header = BUF_INIT(10000), out = BUF_INIT(10000);

        assert_int_equal(buf_printf(&header, "From: %s\r\nTo: %s\r\n\r\n", addresses[i].body, addresses[i].body), 0);
        assert_int_equal(envelope_print(buf_str(&header), false, &out), 0);
        assert_true(is_envelope(buf_str(&out), false));
        buf_clear(&out);
        assert_int_equal(envelope_print(buf_str(&header), true, &out), 0);
        assert_true(is_envelope(buf_str(&out), true));
    }
    _cleanup_buf_ struct buf small = BUF_INIT(20);

    assert_int_equal(envelope_print(STR("Subject: 0123456789\r\n\r\n"), false, &small), -ENOBUFS);
    assert_int_equal(small.len, 0);
}

#define BY "Received: from a by b\r\n\twith UTF8SMTPSA id x; Sat, 14 Nov 2026 12:00:00 +0100\r\n"

/* RFC 6858 2 */
static void downgraded_headers(void **state)
{
    static const struct {
        const char *header;
        const char *expected; /* NULL: served as it is */
    } table[] = {
        {"Subject: plain\r\n\r\n", NULL},
        {"Subject: gr\xc3\xbc\xc3\x9f\x65\r\n\r\n", NULL}, /* sent like that without SMTPUTF8 */
        {BY "Subject: gr\xfc\xdf\x65\r\n\r\n", NULL},      /* not UTF-8 */
        {BY "\r\n", NULL},
        {BY "From: a@b\r\nSubject: gr\xc3\xbc\xc3\x9f\x65\r\n\r\n",
         BY "From: a@b\r\nSubject: =?utf-8?B?Z3LDvMOfZQ==?=\r\n\r\n"},
        {BY "From: J\xc3\xb6 <j@b>\r\nTo: j\xc3\xb6@b, \"Doe, J\" <\xc3\xbc@c>, g: a@b, K <k@\xc3\xa4>;, x@y\r\nX-A: "
            "\xc3\xa4\r\n",
         BY "From: =?utf-8?B?SsO2?= <j@b>\r\n"
            "To: =?utf-8?B?asO2QGI=?= <invalid@internationalized-address.invalid>,\r\n"
            " \"Doe, J\" <invalid@internationalized-address.invalid>,\r\n"
            " \"g\": a@b,\r\n \"K\" <invalid@internationalized-address.invalid>;,\r\n x@y\r\n\r\n"},
        {BY "Content-Type: text/plain; charset=utf-8; name=\"\xc3\xa4\"\r\n\r\n",
         BY "Content-Type: text/plain;\r\n charset=\"utf-8\"\r\n\r\n"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct str header = str_from(table[i].header);
        _cleanup_buf_ struct buf out = BUF_INIT(10000);

        if (downgrade_is_needed(header) != (table[i].expected != NULL))
            fail_msg("%s", table[i].header);
        if (!table[i].expected)
            continue;
        assert_int_equal(downgrade_header(header, &out), 0);
        assert_string_equal(buf_cstr(&out), table[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_ends),
        cmocka_unit_test(fields_one_by_one),
        cmocka_unit_test(values_on_one_line),
        cmocka_unit_test(selection),
        cmocka_unit_test(collecting),
        cmocka_unit_test(collecting_too_much),
        cmocka_unit_test(strings),
        cmocka_unit_test(address_lists),
        cmocka_unit_test(address_lists_grow),
        cmocka_unit_test(addresses_are_limited),
        cmocka_unit_test(addresses_in_linear_time),
        cmocka_unit_test(printing_addresses),
        cmocka_unit_test(envelope_texts),
        cmocka_unit_test(downgraded_headers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
