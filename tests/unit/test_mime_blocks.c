/* Unit tests of shared/mime: what is done many bytes at a time comes to the same as one byte at a time. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/lanes.h"
#include "shared/mime/caseless.h"
#include "shared/mime/fold.h"
#include "shared/mime/search.h"
#include "shared/mime/structure.h"

#define MAX    (4u << 20)
#define ROUNDS 3000

static size_t below(uint32_t *seed, size_t n)
{
    *seed = *seed * 1664525 + 1013904223;
    return (*seed >> 8) % n;
}

static void sums(void **state)
{
    uint32_t seed = 1;

    assert_int_equal(lanes_sum(lanes_splat(0xff)), 255 * LANES);
    for (int round = 0; round < 100; round++) {
        uint8_t bytes[LANES];
        uint64_t sum = 0;

        for (size_t i = 0; i < LANES; i++)
            sum += bytes[i] = (uint8_t)below(&seed, 256);
        assert_int_equal(lanes_sum(lanes_load(bytes)), sum);
    }
}

/* The tree of a message as bytes: offsets and line counts are in it. */
static void tree_of(struct mime_parser *p, struct str message, size_t piece, struct buf *out)
{
    _cleanup_mime_tree_ struct mime_tree t = {0};

    for (size_t at = 0; at < message.len; at += piece)
        assert_int_equal(mime_parser_feed(p, str_sub(message, at, piece)), 0);
    assert_int_equal(mime_parser_end(p, &t), 0);
    buf_clear(out);
    assert_int_equal(mime_tree_write(&t, out), 0);
}

/* Bodies with delimiters and what looks like them in all places of a block, and blocks with many line ends or none. */
static void delimiters(void **state)
{
    static const char *const ends[] = {"\r\n", "\n", "\r\n\r\n", "\n\n\n", "\r"};
    static const char *const starts[] = {"--b", "--b--", "-", "--", "--c", "\n", "b--b", ""};
    _cleanup_buf_ struct buf text = BUF_INIT(MAX), whole = BUF_INIT(MAX), single = BUF_INIT(MAX);
    struct mime_parser *p;
    uint32_t seed = 2;

    assert_int_equal(mime_parser_new(&p), 0);
    for (int round = 0; round < ROUNDS; round++) {
        size_t width = 1 + below(&seed, round % 3 == 0 ? 300 : 40), lines = below(&seed, round % 100 == 0 ? 5000 : 40);
        unsigned dashes = 1u << below(&seed, 9);

        buf_clear(&text);
        if (round & 1)
            assert_int_equal(buf_add_str(&text, STR("Content-Type: multipart/mixed; boundary=b\r\n")), 0);
        assert_int_equal(buf_add(&text, "\r\n", 2), 0);
        for (size_t line = 0; line < lines; line++) {
            bool is_dash = below(&seed, dashes) == 0;

            for (size_t i = below(&seed, width); i > 0; i--)
                assert_int_equal(buf_add_byte(&text, "ab- \r"[below(&seed, 5)]), 0);
            assert_int_equal(buf_add_str(&text, str_from(ends[below(&seed, ARRAY_SIZE(ends))])), 0);
            if (is_dash)
                assert_int_equal(buf_add_str(&text, str_from(starts[below(&seed, ARRAY_SIZE(starts))])), 0);
        }
        tree_of(p, buf_str(&text), 1, &single);
        tree_of(p, buf_str(&text), text.len + 1, &whole);
        assert_true(str_eq(buf_str(&single), buf_str(&whole)));
        tree_of(p, buf_str(&text), 1 + below(&seed, 400), &whole);
        assert_true(str_eq(buf_str(&single), buf_str(&whole)));
    }
    mime_parser_free(p);
}

/* More line ends than a lane can count. */
static void empty_lines(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(MAX);
    _cleanup_mime_tree_ struct mime_tree t = {0};
    struct mime_parser *p;

    while (text.len <= 100000)
        assert_int_equal(buf_add_byte(&text, '\n'), 0);
    assert_int_equal(mime_parser_new(&p), 0);
    assert_int_equal(mime_parser_feed(p, buf_str(&text)), 0);
    assert_int_equal(mime_parser_end(p, &t), 0);
    assert_int_equal(t.root->lines, 100000);
    mime_parser_free(p);
}

/* Of few letters, so that beginnings of the needle abound. */
static void make_needle(uint32_t *seed, struct buf *out)
{
    static const char *const characters[] = {"a", "B", "z", "-", "[", "{", "\xc3\xa4", "\xef\xac\x81"};
    size_t kinds = 1 + below(seed, 8 * (1 + below(seed, 2)));

    buf_clear(out);
    for (size_t n = 1 + below(seed, below(seed, 10) == 0 ? 100 : 6); n > 0; n--)
        assert_int_equal(buf_add_str(out, str_from(characters[below(seed, kinds < 9 ? kinds : 6)])), 0);
}

/* A text in which the needle may be, in another case, and cut short. */
static void make_text(uint32_t *seed, struct str needle, bool is_ascii, struct buf *out)
{
    static const char *const characters[] = {"a", "A", "b",        "z",         "-",    "[",
                                             "{", " ", "\xc3\x84", "a\xcc\x88", "\xc3", "\xff"};
    size_t n = below(seed, below(seed, 20) == 0 ? 40000 : 300), rare = 1 + below(seed, 3000);

    buf_clear(out);
    for (; n > 0; n--) {
        size_t kinds = !is_ascii && below(seed, rare) == 0 ? ARRAY_SIZE(characters) : 8;

        assert_int_equal(buf_add_str(out, str_from(characters[below(seed, kinds)])), 0);
        if (below(seed, 200) == 0)
            assert_int_equal(buf_add_str(out, str_sub(needle, below(seed, 2), below(seed, needle.len + 1))), 0);
    }
}

static bool is_in(struct str text, struct str upper)
{
    _cleanup_buf_ struct buf folded = BUF_INIT(MAX);

    assert_int_equal(fold_text(text, &folded), 0);
    return memmem(buf_cstr(&folded), folded.len, upper.ptr, upper.len) != NULL;
}

static bool is_found_in_pieces(uint32_t *seed, struct str text, struct str needle, size_t most)
{
    struct fold_search *s;
    bool is_found = false;

    assert_int_equal(fold_search_new(needle, &s), 0);
    for (size_t at = 0, n; at < text.len; at += n) {
        n = 1 + below(seed, most);
        assert_int_equal(fold_search_feed(s, str_sub(text, at, n), &is_found), 0);
    }
    assert_int_equal(fold_search_end(s, &is_found), 0);
    fold_search_free(s);
    return is_found;
}

static void quick_looks(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(MAX), needle = BUF_INIT(MAX), upper = BUF_INIT(MAX);
    uint32_t seed = 3;
    unsigned hits = 0;

    for (int round = 0; round < ROUNDS; round++) {
        bool is_there;

        make_needle(&seed, &needle);
        make_text(&seed, buf_str(&needle), round & 1, &text);
        buf_clear(&upper);
        assert_int_equal(fold_text(buf_str(&needle), &upper), 0);
        is_there = is_in(buf_str(&text), buf_str(&upper));
        hits += is_there;
        assert_true(caseless_may_contain(buf_str(&text), buf_str(&upper)) || !is_there);
        assert_true(caseless_may_contain(buf_str(&text), buf_str(&upper)) || str_is_ascii(buf_str(&text)));
        assert_int_equal(is_found_in_pieces(&seed, buf_str(&text), buf_str(&needle), 40), is_there);
        assert_int_equal(is_found_in_pieces(&seed, buf_str(&text), buf_str(&needle), 2000), is_there);
        assert_int_equal(is_found_in_pieces(&seed, buf_str(&text), buf_str(&needle), 50000), is_there);
    }
    assert_in_range(hits, ROUNDS / 10, ROUNDS - ROUNDS / 10);
}

/* It says no where it should, and gives up on what would take it long. */
static void quick_looks_are_quick(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(MAX), upper = BUF_INIT(MAX);

    while (text.len < 10000)
        assert_int_equal(buf_add(&text, "the quick brown fox ", 20), 0);
    assert_false(caseless_may_contain(buf_str(&text), STR("THE QUICK BROWN BOX")));
    assert_false(caseless_may_contain(buf_str(&text), STR("\xc3\x84")));
    assert_true(caseless_may_contain(buf_str(&text), STR("FOX THE")));
    buf_clear(&text);
    while (text.len < 10000)
        assert_int_equal(buf_add_byte(&text, 'a'), 0);
    assert_false(caseless_may_contain(buf_str(&text), STR("AB")));
    while (upper.len < 1000)
        assert_int_equal(buf_add_byte(&upper, upper.len == 998 ? 'B' : 'A'), 0);
    assert_true(caseless_may_contain(buf_str(&text), buf_str(&upper)));
    assert_false(is_in(buf_str(&text), buf_str(&upper)));
}

static bool is_found(struct str message, struct str needle, size_t piece)
{
    struct mime_search *s;
    bool is_found = false;

    assert_int_equal(mime_search_new(needle, true, &s), 0);
    for (size_t at = 0; at < message.len; at += piece)
        assert_int_equal(mime_search_feed(s, str_sub(message, at, piece), &is_found), 0);
    assert_int_equal(mime_search_end(s, &is_found), 0);
    mime_search_free(s);
    return is_found;
}

/* The fields of a header are looked at together, but each for itself; a long header in parts. */
static void long_headers(void **state)
{
    static const char message_end[] =
        "X-Last: last one\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nbody\r\n";
    _cleanup_buf_ struct buf text = BUF_INIT(MAX);

    for (size_t size = 0; size < 400000; size = 3 * size + 1000) {
        buf_clear(&text);
        assert_int_equal(buf_add_str(&text, STR("Subject: first\r\n =?utf-8?q?=C3=A4one?=\r\nGarbage\r\n")), 0);
        while (text.len < size)
            assert_int_equal(buf_add_str(&text, STR("X-Some: some text that is there often\r\n")), 0);
        assert_int_equal(buf_add_str(&text, str_from(message_end)), 0);
        for (size_t piece = 100; piece < 2 * text.len; piece *= 7) {
            assert_true(is_found(buf_str(&text), STR("first \xc3\x84one"), piece));
            assert_true(is_found(buf_str(&text), STR("garbage"), piece));
            assert_true(is_found(buf_str(&text), STR("x-last: LAST ONE"), piece));
            assert_true(is_found(buf_str(&text), STR("subject: inner"), piece));
            assert_true(is_found(buf_str(&text), STR("body"), piece));
            assert_false(is_found(buf_str(&text), STR("one\nGarbage"), piece));
            assert_false(is_found(buf_str(&text), STR("oneGarbage"), piece));
            assert_false(is_found(buf_str(&text), STR("\nX-Last"), piece));
            assert_false(is_found(buf_str(&text), STR(": garbage"), piece));
        }
    }
}

/* Headers that can be ruled out and the same with a field that has to be decoded: strings are found in both or none. */
static void headers_as_they_stand(void **state)
{
    static const char *const pieces[] = {"a",      "B",    "b",  " ",  "\t", ":", ": ", "\r\n ", "\r\n\t",
                                         "\r\nA:", "\r\n", "\n", "\r", "=",  "?", "(",  "aab"};
    _cleanup_buf_ struct buf text = BUF_INIT(MAX), needle = BUF_INIT(MAX);
    const struct str decoded = STR("X: =?utf-8?q?=C3=96?=\r\n");
    unsigned hits = 0;
    uint32_t seed = 4;

    for (int round = 0; round < 4 * ROUNDS; round++) {
        bool is_plain;

        buf_clear(&text);
        buf_clear(&needle);
        assert_int_equal(buf_add_str(&text, decoded), 0);
        assert_int_equal(buf_add_byte(&text, 'b'), 0);
        for (size_t n = below(&seed, 60); n > 0; n--)
            assert_int_equal(buf_add_str(&text, str_from(pieces[below(&seed, ARRAY_SIZE(pieces))])), 0);
        for (size_t n = 1 + below(&seed, 4); n > 0; n--)
            assert_int_equal(buf_add_str(&needle, str_from(pieces[below(&seed, ARRAY_SIZE(pieces))])), 0);
        is_plain = is_found(str_sub(buf_str(&text), decoded.len, text.len), buf_str(&needle), text.len + 1);
        hits += is_plain;
        if (!is_found(decoded, buf_str(&needle), decoded.len))
            assert_int_equal(is_found(buf_str(&text), buf_str(&needle), text.len + 1), is_plain);
    }
    assert_in_range(hits, ROUNDS / 10, 4 * ROUNDS - ROUNDS / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums),
        cmocka_unit_test(delimiters),
        cmocka_unit_test(empty_lines),
        cmocka_unit_test(quick_looks),
        cmocka_unit_test(quick_looks_are_quick),
        cmocka_unit_test(long_headers),
        cmocka_unit_test(headers_as_they_stand),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
