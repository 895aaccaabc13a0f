/*
 * Message data behind DATA and BDAT, and the watch on the header.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above */
#include <cmocka.h>
#include <errno.h>

#include "handlers/smtp/data.h"
#include "handlers/smtp/header.h"
#include "shared/base/buf.h"
#include "shared/base/macros.h"

/* ---- message data ---- */

struct data_case {
    const char *input;
    const char *strict; /* message, NULL: spoiled */
    const char *normal;
    const char *lenient;
    int left[3]; /* bytes behind the end in the three modes, -1: no end */
};

/* Every spelling of an end of data that a smuggler has tried, and the plain ones. */
static const struct data_case DATA[] = {
    {".\r\n", "", "", "", {0, 0, 0}},
    {"a\r\n.\r\n", "a\n", "a\n", "a\n", {0, 0, 0}},
    {"a\r\n.\r\nQUIT\r\n", "a\n", "a\n", "a\n", {6, 6, 6}},
    {"..\r\n.\r\n", ".\n", ".\n", ".\n", {0, 0, 0}},
    {".a\r\n.\r\n", "a\n", "a\n", "a\n", {0, 0, 0}},
    {"...\r\n.\r\n", "..\n", "..\n", "..\n", {0, 0, 0}},
    {"a.\r\n.\r\n", "a.\n", "a.\n", "a.\n", {0, 0, 0}},
    {"\r\n\r\n.\r\n", "\n\n", "\n\n", "\n\n", {0, 0, 0}},
    {"a\n.\nb\r\n.\r\n", NULL, "a\n.\nb\n", "a\n", {0, 0, 6}},
    {"a\n.\r\nb\r\n.\r\n", NULL, "a\n.\nb\n", "a\n", {0, 0, 6}},
    {"a\r\n.\nb\r\n.\r\n", NULL, "a\n\nb\n", "a\n", {0, 0, 6}},
    {"a\r.\rb\r\n.\r\n", NULL, NULL, NULL, {0, 0, 0}},
    {"a\r.\r\nb\r\n.\r\n", NULL, NULL, NULL, {0, 0, 0}},
    {"a\r\n.\rb\r\n.\r\n", NULL, NULL, NULL, {0, 0, 0}},
    {"a\n\r.\r\nb\r\n.\r\n", NULL, NULL, NULL, {0, 0, 0}},
    {"a\r\r\n.\r\n", NULL, NULL, NULL, {0, 0, 0}},
    {"a\r\n.\r\r\nb\r\n.\r\n", NULL, NULL, NULL, {0, 0, 0}},
    {"a\n\n.\r\nb\r\n.\r\n", NULL, "a\n\n.\nb\n", "a\n\n", {0, 0, 6}},
    {"a\r\n\n.\r\nb\r\n.\r\n", NULL, "a\n\n.\nb\n", "a\n\n", {0, 0, 6}},
    {"a\n..b\r\n.\r\n", NULL, "a\n.b\n", "a\n.b\n", {0, 0, 0}},
    {"a\r\n. \r\n.\r\n", "a\n \n", "a\n \n", "a\n \n", {0, 0, 0}},
    {"a\r\n.", "a\n", "a\n", "a\n", {-1, -1, -1}},
    {"a\r\n.\r", "a\n", "a\n", "a\n", {-1, -1, -1}},
    {"a", "a", "a", "a", {-1, -1, -1}},
};

static int collect(void *context, struct str bytes)
{
    return buf_add_str(context, bytes);
}

/* Feeds in pieces of `step` bytes. Returns what was left behind the end, -1 without an end. */
static int feed(struct data_reader *d, enum data_mode mode, struct str input, size_t step, struct buf *out)
{
    size_t at = 0;

    data_init(d, mode, collect, out);
    while (at < input.len && !d->is_end) {
        struct str piece = str_sub(input, at, step);
        size_t used = data_feed(d, piece);

        at += used;
        assert_true(used == piece.len || d->is_end);
    }
    return d->is_end ? (int)(input.len - at) : -1;
}

static void check_data(const struct data_case *c, enum data_mode mode, const char *want, size_t step)
{
    _cleanup_buf_ struct buf out = BUF_INIT(1000);
    struct data_reader d;
    int left = feed(&d, mode, str_from(c->input), step, &out);

    if (c->left[mode] == -1 && !want)
        return;
    if (left != c->left[mode])
        fail_msg("mode %d step %zu: %d left of \"%s\"", mode, step, left, c->input);
    if (!want)
        assert_int_not_equal(d.faults, 0);
    else if (d.faults != 0 || !str_eq(buf_str(&out), str_from(want)))
        fail_msg("mode %d step %zu: \"%s\" of \"%s\"", mode, step, buf_cstr(&out), c->input);
}

static void test_data_table(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(DATA); i++)
        for (size_t step = 1; step < 20; step++) {
            check_data(&DATA[i], DATA_STRICT, DATA[i].strict, step);
            check_data(&DATA[i], DATA_NORMALIZE, DATA[i].normal, step);
            check_data(&DATA[i], DATA_LENIENT, DATA[i].lenient, step);
        }
}

static void test_data_nul(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(1000);
    struct data_reader d;

    assert_int_equal(feed(&d, DATA_STRICT, STR("a\0b\r\n.\r\nx"), 1, &out), 1);
    assert_int_equal(d.faults, DATA_NUL);
}

/* BINARYMIME (RFC 3030): the header is lines, with LF in the end; what is behind it is what came. */
static void test_data_binary(void **state)
{
    static const struct {
        struct str input, out;
        unsigned faults;
        uint64_t size;
    } cases[] = {
        {{"a: b\r\n\r\n\0\r\n.\r\n\n\r", 16}, {"a: b\n\n\0\r\n.\r\n\n\r", 14}, 0, 16},
        {{"\r\n\r\n\0", 5}, {"\n\r\n\0", 4}, 0, 5},
        {{"a: b\r\n.c: d\r\n\r\n", 15}, {"a: b\n.c: d\n\n", 12}, 0, 15},
        {{"a: b", 4}, {"a: b\n", 5}, 0, 6},
        {{"a: b\nc: d\r\n\r\n", 13}, {NULL, 0}, DATA_BARE_LF, 0},
        {{"a: b\rc: d\r\n\r\n", 13}, {NULL, 0}, DATA_BARE_CR, 0},
        {{"a: \0\r\n\r\n", 8}, {NULL, 0}, DATA_NUL, 0},
        {{"a: b\r", 5}, {NULL, 0}, DATA_BARE_CR, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        for (size_t step = 1; step < 17; step++) {
            _cleanup_buf_ struct buf out = BUF_INIT(1000);
            struct data_reader d;

            data_init(&d, DATA_BINARY, collect, &out);
            d.is_counted = true;
            for (size_t at = 0; at < cases[i].input.len; at += step)
                (void)data_feed(&d, str_sub(cases[i].input, at, step));
            data_end_counted(&d);
            assert_int_equal(d.faults, cases[i].faults);
            if (cases[i].faults)
                continue;
            assert_true(str_eq(buf_str(&out), cases[i].out));
            assert_int_equal(d.size, cases[i].size);
        }
}

/* Every string of up to 8 of these letters: a strict reader ends exactly behind the first CRLF.CRLF (the data begins
 * behind a CRLF), and a message without fault is the text with stuffing undone. */
static void test_data_exhaustive(void **state)
{
    static const char letters[] = "\r\n.a";

    for (size_t len = 1; len <= 8; len++) {
        for (uint32_t n = 0; n < 1u << (2 * len); n++) {
            char input[16];
            _cleanup_buf_ struct buf whole = BUF_INIT(1000), bytes = BUF_INIT(1000);
            struct data_reader a, b;
            struct str text = {input, len + 2}, rest = {input + 2, len};
            ptrdiff_t end;
            int left;

            input[0] = '\r';
            input[1] = '\n';
            for (size_t i = 0; i < len; i++)
                input[2 + i] = letters[n >> (2 * i) & 3];
            end = str_find(text, STR("\r\n.\r\n"));
            left = feed(&a, DATA_STRICT, rest, len, &whole);
            assert_int_equal(left, end < 0 ? -1 : (int)(text.len - (size_t)end - 5));
            assert_int_equal(feed(&b, DATA_STRICT, rest, 1, &bytes), left);
            assert_int_equal(a.faults, b.faults);
            assert_int_equal(a.size, b.size);
            assert_true(str_eq(buf_str(&whole), buf_str(&bytes)));
            for (int mode = DATA_NORMALIZE; mode <= DATA_LENIENT; mode++) {
                buf_clear(&whole);
                buf_clear(&bytes);
                left = feed(&a, (enum data_mode)mode, rest, len, &whole);
                assert_int_equal(feed(&b, (enum data_mode)mode, rest, 1, &bytes), left);
                assert_int_equal(a.faults, b.faults);
                assert_int_equal(a.size, b.size);
                assert_true(str_eq(buf_str(&whole), buf_str(&bytes)));
                if (mode == DATA_NORMALIZE)
                    assert_int_equal(left, end < 0 ? -1 : (int)(text.len - (size_t)end - 5));
            }
        }
    }
}

static void test_data_size(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(1000);
    struct data_reader d;

    feed(&d, DATA_STRICT, STR("abc\r\n..d\r\n.\r\n"), 3, &out);
    assert_int_equal(d.size, 5 + 4); /* with CRLF, without stuffing */
}

/* BDAT: dots mean nothing, the count is the end, the last line gets its end. */
static void test_data_counted(void **state)
{
    static const struct {
        const char *input, *want;
    } cases[] = {
        {"a\r\n.\r\nb", "a\n.\nb\n"}, {"..a\r\n", "..a\n"}, {"", ""}, {".", ".\n"}, {"a\r", NULL}, {"a\nb", NULL}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        for (size_t step = 1; step < 8; step++) {
            _cleanup_buf_ struct buf out = BUF_INIT(1000);
            struct str input = str_from(cases[i].input);
            struct data_reader d;

            data_init(&d, DATA_STRICT, collect, &out);
            d.is_counted = true;
            for (size_t at = 0; at < input.len; at += step)
                (void)data_feed(&d, str_sub(input, at, step));
            assert_false(d.is_end);
            data_end_counted(&d);
            assert_true(d.is_end);
            assert_int_equal(d.faults == 0, cases[i].want != NULL);
            if (cases[i].want)
                assert_string_equal(buf_cstr(&out), cases[i].want);
        }
}

static int refuse(void *context, struct str bytes)
{
    (*(int *)context)++;
    return -ENOSPC;
}

static void test_data_sink_error(void **state)
{
    struct data_reader d;
    int calls = 0;

    data_init(&d, DATA_STRICT, refuse, &calls);
    assert_int_equal(data_feed(&d, STR("abc\r\ndef\r\n.\r\nQUIT")), 13);
    assert_true(d.is_end);
    assert_int_equal(d.error, -ENOSPC);
    assert_int_equal(calls, 1);
}

/* ---- header ---- */

static void test_header(void **state)
{
    struct str text = STR(
        "Received: a\n\tb\nReceived: c\nX-Received: d\nDATE : today\n From: folded\nMessage-Id: <x>\n\nFrom: body\n");

    for (size_t step = 1; step < text.len; step++) {
        struct header_watch h = {0};
        size_t at = 0, header = 0;

        for (; at < text.len; at += step)
            header += header_watch(&h, str_sub(text, at, step));
        assert_true(h.is_ended);
        assert_false(h.is_malformed);
        assert_int_equal(h.received, 2);
        assert_int_equal(h.fields, HEADER_DATE | HEADER_MESSAGE_ID);
        assert_int_equal(header, text.len - 12);
        assert_int_equal(h.size, header);
    }
}

static void test_header_malformed(void **state)
{
    struct header_watch h = {0};

    header_watch(&h, STR("From: a@b\nhello world\n"));
    assert_true(h.is_ended);
    assert_true(h.is_malformed);
    assert_int_equal(h.fields, HEADER_FROM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data_table),       cmocka_unit_test(test_data_nul),
        cmocka_unit_test(test_data_binary),      cmocka_unit_test(test_data_exhaustive),
        cmocka_unit_test(test_data_size),        cmocka_unit_test(test_data_counted),
        cmocka_unit_test(test_data_sink_error),  cmocka_unit_test(test_header),
        cmocka_unit_test(test_header_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
