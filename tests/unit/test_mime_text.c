/* Unit tests of shared/mime: encodings, charsets, encoded words, modified UTF-7, folding, searching, subjects,
 * previews. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>

#include "shared/base/buf.h"
#include "shared/base/limits.h"
#include "shared/mime/charset.h"
#include "shared/mime/decode.h"
#include "shared/mime/rfc2047.h"
#include "shared/mime/utf7.h"

#define MAX (4u << 20)

#define EQUAL(b, expected) assert_string_equal(buf_cstr(b), expected)

static const struct {
    enum mime_encoding kind;
    const char *encoded;
    const char *expected;
    bool is_damaged;
} decodings[] = {
    {MIME_ENCODING_BASE64, "aGVsbG8gd29ybGQ=", "hello world", false},
    {MIME_ENCODING_BASE64, "aGVs\r\nbG8g\r\nd29ybGQ=\r\n", "hello world", false},
    {MIME_ENCODING_BASE64, "aGV sb\tG8g\nd29ybGQ", "hello world", true},
    {MIME_ENCODING_BASE64, "aGVsbG8=\r\n-- \r\nlist footer\r\n", "hello", false},
    {MIME_ENCODING_BASE64, "a!G*V-s", "hel", true},
    {MIME_ENCODING_BASE64, "aG", "h", true},
    {MIME_ENCODING_BASE64, "a", "", true},
    {MIME_ENCODING_BASE64, "", "", false},
    {MIME_ENCODING_BASE64, "====", "", false},
    {MIME_ENCODING_QUOTED_PRINTABLE, "a=3Db=c3=A4", "a=b\xc3\xa4", false},
    {MIME_ENCODING_QUOTED_PRINTABLE, "soft =\r\nbreak=\nhere= \t\r\n.", "soft breakhere.", false},
    {MIME_ENCODING_QUOTED_PRINTABLE, "trailing \t \r\nblanks  ", "trailing\r\nblanks", false},
    {MIME_ENCODING_QUOTED_PRINTABLE, "=XY =4 =", "=XY =4 ", true},
    {MIME_ENCODING_QUOTED_PRINTABLE, "a = b", "a = b", true},
    {MIME_ENCODING_QUOTED_PRINTABLE, "==3D", "==", true},
    {MIME_ENCODING_QUOTED_PRINTABLE, "=3", "=3", true},
    {MIME_ENCODING_UUENCODE, "junk\r\nbegin 644 x\r\n+:&5L;&\\@=V]R;&0 \r\n`\r\nend\r\njunk\r\n", "hello world", false},
    {MIME_ENCODING_UUENCODE, "begin 644 x\r\n+:&5L", "", true},
    {MIME_ENCODING_NONE, "as it=20is", "as it=20is", false},
    {MIME_ENCODING_UNKNOWN, "as it=20is", "as it=20is", false},
};

static void decoding(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(decodings); i++) {
        struct str s = str_from(decodings[i].encoded);

        for (size_t piece = 1; piece <= s.len + 1; piece++) {
            _cleanup_buf_ struct buf out = BUF_INIT(MAX);
            struct decoder d;

            decoder_init(&d, decodings[i].kind);
            for (size_t at = 0; at < s.len; at += piece)
                assert_int_equal(decoder_feed(&d, str_sub(s, at, piece), &out), 0);
            assert_int_equal(decoder_end(&d, &out), 0);
            EQUAL(&out, decodings[i].expected);
            if (d.is_damaged != decodings[i].is_damaged)
                fail_msg("%s: damaged %d", decodings[i].encoded, d.is_damaged);
            decoder_finish(&d);
        }
    }
}

/* Every length and content survives both encodings, in lines of at most 76 characters. */
static void encoding_and_back(void **state)
{
    static const enum mime_encoding kinds[] = {MIME_ENCODING_BASE64, MIME_ENCODING_QUOTED_PRINTABLE};
    _cleanup_buf_ struct buf text = BUF_INIT(MAX);
    uint32_t random = 1;

    for (size_t n = 0; n < 600; n++) {
        for (size_t k = 0; k < 4; k++) {
            bool is_text = k & 1;
            _cleanup_buf_ struct buf encoded = BUF_INIT(MAX), decoded = BUF_INIT(MAX);
            struct str rest, line;
            struct encoder e;
            struct decoder d;

            encoder_init(&e, kinds[k / 2], is_text);
            for (size_t i = 0; i < text.len; i++)
                assert_int_equal(encoder_feed(&e, str_sub(buf_str(&text), i, 1), &encoded), 0);
            assert_int_equal(encoder_end(&e, &encoded), 0);
            decoder_init(&d, kinds[k / 2]);
            assert_int_equal(decoder_feed(&d, buf_str(&encoded), &decoded), 0);
            assert_int_equal(decoder_end(&d, &decoded), 0);
            decoder_finish(&d);
            assert_true(str_eq(buf_str(&decoded), buf_str(&text)));
            for (rest = buf_str(&encoded); rest.len;) {
                (void)str_cut(&rest, '\n', &line);
                assert_true(line.len <= 77);
            }
        }
        random = random * 1664525 + 1013904223;
        assert_int_equal(n % 50 == 49   ? buf_add(&text, " \r\n", 3)
                         : n % 50 == 20 ? buf_add(&text, "\t", 1)
                                        : buf_add_byte(&text, (char)(random >> 24)),
                         0);
    }
}

static void strict_base64(void **state)
{
    static const char *const bad[] = {
        "a", "ab", "abc", "a===", "ab=c", "====", "YR==", "YWJ=", "YW J", "YWJj\n", "YQ==YQ=="};
    _cleanup_buf_ struct buf out = BUF_INIT(MAX);

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(base64_decode(str_from(bad[i]), &out), -EINVAL);
        assert_int_equal(out.len, 0);
    }
    assert_int_equal(base64_decode(STR("YWJjZA=="), &out), 0);
    EQUAL(&out, "abcd");
    buf_clear(&out);
    assert_int_equal(base64_encode(STR("abcde"), &out), 0);
    EQUAL(&out, "YWJjZGU=");
}

static const struct {
    const char *charset;
    struct str text;
    const char *expected;
} charsets[] = {
    {"utf-8",
     {"Gr\xc3\xbc\xc3\x9f\x65 \xe2\x82\xac\xf0\x9f\x93\xa8", 15},
     "Gr\xc3\xbc\xc3\x9f\x65 \xe2\x82\xac\xf0\x9f\x93\xa8"},
    {"UTF-8", {"a\xff\xc3", 3}, "a\xef\xbf\xbd\xef\xbf\xbd"},
    {"utf-8", {"\xe2\x82x\xed\xa0\x80", 6}, "\xef\xbf\xbd\xef\xbf\xbdx\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    {"us-ascii", {"a\xe4\xc3\xa4", 4}, "a\xc3\xa4\xc3\xa4"},
    {"ISO-8859-1", {"\xe4\x80\xa0", 3}, "\xc3\xa4\xe2\x82\xac\xc2\xa0"},
    {"iso-8859-15", {"\xa4", 1}, "\xe2\x82\xac"},
    {"windows-1251", {"\xcf\xf0\xe8", 3}, "\xd0\x9f\xd1\x80\xd0\xb8"},
    {"ISO-2022-JP", {"\x1b$B$3\x1b(B!", 9}, "\xe3\x81\x93!"},
    {"shift_jis", {"\x82\xb1", 2}, "\xe3\x81\x93"},
    {"gb2312", {"\xc4\xe3", 2}, "\xe4\xbd\xa0"},
    {"utf-16be", {"\0a\x20\xac", 4}, "a\xe2\x82\xac"},
    {"no-such-charset", {"a\xe4\xc3\xa4\xc3", 5}, "a\xc3\xa4\xc3\xa4\xc3\x83"},
    {"", {"\x80", 1}, "\xe2\x82\xac"},
    {"../../etc//IGNORE", {"x", 1}, "x"},
};

static void charset_conversion(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(charsets); i++) {
        for (size_t piece = 1; piece <= charsets[i].text.len; piece++) {
            _cleanup_buf_ struct buf out = BUF_INIT(MAX);
            struct charset *c;

            assert_int_equal(charset_new(str_from(charsets[i].charset), &c, NULL), 0);
            for (size_t at = 0; at < charsets[i].text.len; at += piece)
                assert_int_equal(charset_feed(c, str_sub(charsets[i].text, at, piece), &out), 0);
            assert_int_equal(charset_end(c, &out), 0);
            charset_free(c);
            if (strcmp(buf_cstr(&out), charsets[i].expected) != 0)
                fail_msg("%s, pieces of %zu: %s", charsets[i].charset, piece, buf_cstr(&out));
            assert_true(utf8_valid(buf_str(&out)));
        }
    }
    assert_true(charset_is_known(STR("KOI8-R")) && charset_is_known(STR("US-ASCII")) && charset_is_known(STR("utf-7")));
    assert_false(charset_is_known(STR("iso-2022-cn-ext")));
    assert_false(charset_is_known(STR("no-such-charset")));
    assert_false(charset_is_known(STR("")));
    assert_false(charset_is_known(STR("utf-8//TRANSLIT")));
}

static void charset_strictly(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(MAX);

    assert_int_equal(charset_to_utf8(STR("utf-8"), STR("\xe4"), true, &out), -EILSEQ);
    assert_int_equal(charset_to_utf8(STR("utf-8"), STR("\xe2\x82"), true, &out), -EILSEQ);
    assert_int_equal(charset_to_utf8(STR("us-ascii"), STR("\xe4"), true, &out), -EILSEQ);
    assert_int_equal(charset_to_utf8(STR("x-none"), STR("a"), true, &out), -ENOENT);
    assert_int_equal(out.len, 0);
    assert_int_equal(charset_to_utf8(STR("koi8-r"), STR("\xc1"), true, &out), 0);
    EQUAL(&out, "\xd0\xb0");
}

static void encoded_words(void **state)
{
    static const struct {
        const char *body;
        const char *expected;
    } table[] = {
        {" plain  text\r\n", "plain  text"},
        {"=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Gr\xc3\xbc\xc3\x9f\x65"},
        {"=?ISO-8859-1?Q?a_b?= =?ISO-8859-1?Q?c?=", "a bc"},
        {"=?ISO-8859-1?Q?a?=\r\n  =?utf-8?B?w6Q=?= x", "a\xc3\xa4 x"},
        {"a =?utf-8?q?b?= c =?utf-8?q?d?=", "a b c d"},
        /* A character split over two words: against RFC 2047 5 (3), and common. */
        {"=?utf-8?b?4oI=?= =?utf-8?b?rA==?=", "\xe2\x82\xac"},
        {"=?utf-8*de?Q?hallo?=", "hallo"},
        {"=?utf-8?Q?=?= x", "= x"},
        {"=?utf-8?Q?"
         "?= x",
         " x"},
        {"=?utf-8?x?a?=", "=?utf-8?x?a?="},
        {"=?utf-8?q?a b?=", "a b"},
        {"=?utf-8?q?unclosed", "=?utf-8?q?unclosed"},
        {"=?=?=?", "=?=?=?"},
        {"=?utf-8?q?a=0D=0Ab?=", "a  b"},
        {"=?no-such?q?=e4?=", "\xc3\xa4"},
        {"raw \xe4 and \xc3\xa4", "raw \xc3\xa4 and \xc3\xa4"},
        {"(=?utf-8?q?a?=)", "(a)"},
        {"=?utf-8?q?a?==?utf-8?q?b?=", "ab"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(MAX);

        assert_int_equal(rfc2047_decode(str_from(table[i].body), &out), 0);
        EQUAL(&out, table[i].expected);
    }
}

/* A line of plain ASCII goes another way than the rest: a line end put anywhere into a body, which unfolding takes out
 * again, changes nothing of what it means. */
static void folds_anywhere(void **state)
{
    static const char *const pieces[] = {"a",  "harbour",   " ",  "=",    "?",        "\x7f", "~",
                                         "\t", "=?q?q?a?=", "=?", "\x1f", "\xc3\xa4", "\r",   "=?q?b?YUI=?="};
    uint32_t random = 1;

    for (unsigned round = 0; round < 2000; round++) {
        _cleanup_buf_ struct buf body = BUF_INIT(MAX), plain = BUF_INIT(MAX);
        size_t most = round % 3 == 0 ? 7 : round % 3 == 1 ? 10 : ARRAY_SIZE(pieces);

        for (unsigned n = 0; n < round % 9; n++) {
            random = random * 1664525 + 1013904223;
            assert_int_equal(buf_add_str(&body, str_from(pieces[(random >> 16) % most])), 0);
        }
        assert_int_equal(rfc2047_decode(buf_str(&body), &plain), 0);
        for (size_t at = 0; at <= body.len; at++) {
            _cleanup_buf_ struct buf folded = BUF_INIT(MAX), out = BUF_INIT(MAX);

            if (at > 0 && body.data[at - 1] == '\r')
                continue; /* it would become another line end */
            assert_int_equal(buf_add_str(&folded, str_sub(buf_str(&body), 0, at)), 0);
            assert_int_equal(buf_add(&folded, "\r\n", 2), 0);
            assert_int_equal(buf_add_str(&folded, str_sub(buf_str(&body), at, body.len)), 0);
            assert_int_equal(rfc2047_decode(buf_str(&folded), &out), 0);
            EQUAL(&out, buf_cstr(&plain));
        }
    }
}

/* Of a body without end only its beginning counts, whatever it consists of. */
static void cut_bodies(void **state)
{
    _cleanup_buf_ struct buf body = BUF_INIT(MAX), out = BUF_INIT(MAX);

    while (body.len < LIMIT_HEADER_FIELD)
        assert_int_equal(buf_add_byte(&body, ' '), 0);
    assert_int_equal(buf_add_byte(&body, 'x'), 0);
    assert_int_equal(rfc2047_decode(buf_str(&body), &out), 0);
    EQUAL(&out, "");
    assert_int_equal(rfc2047_decode(str_sub(buf_str(&body), 1, LIMIT_HEADER_FIELD), &out), 0);
    EQUAL(&out, "x");
}

/* What could make the decoder slow: the time of this test is its point. */
static void encoded_words_in_linear_time(void **state)
{
    static const char *const units[] = {
        "=?", "=?a?q?x", "=?a?q?", "=?utf-8?q?x?=", "=?utf-8?q?x?= ", "=?a?b?= =?utf-8?q?", "?="};

    for (size_t u = 0; u < ARRAY_SIZE(units); u++) {
        _cleanup_buf_ struct buf body = BUF_INIT(MAX), out = BUF_INIT(MAX);

        while (body.len < LIMIT_HEADER_FIELD)
            assert_int_equal(buf_add_str(&body, str_from(units[u])), 0);
        assert_int_equal(rfc2047_decode(buf_str(&body), &out), 0);
        assert_true(utf8_valid(buf_str(&out)));
    }
}

static void encoded_words_made(void **state)
{
    static const char *const texts[] = {
        "plain",
        "",
        "Gr\xc3\xbc\xc3\x9f\x65",
        "=?not?a?word?=",
        "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"
        "\xe2\x82\xac"
        "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac long enough for two words of it",
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(MAX), back = BUF_INIT(MAX);
        struct str rest, word;

        assert_int_equal(rfc2047_encode(str_from(texts[i]), &out), 0);
        assert_int_equal(rfc2047_decode(buf_str(&out), &back), 0);
        EQUAL(&back, texts[i]);
        for (rest = buf_str(&out); str_word(&rest, &word);)
            assert_true(word.len <= 75);
    }
}

static void modified_utf7(void **state)
{
    static const char *const pairs[][2] = {
        {"INBOX", "INBOX"},
        {"A&B", "A&-B"},
        {"~peter/mail/\xe5\x8f\xb0\xe5\x8c\x97/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e",
         "~peter/mail/&U,BTFw-/&ZeVnLIqe-"},
        {"Entw\xc3\xbcrfe", "Entw&APw-rfe"},
        {"\xf0\x9f\x93\xa8", "&2D3c6A-"},
        {"\xc3\xa4&", "&AOQ-&-"},
        {"\x7f", "&AH8-"},
        {"", ""},
    };
    static const char *const bad[] = {
        "&",   "&Jjo",   "&Jjo!", "\xc3\xa4", "&AGE-",  "&U,BTFw-&ZeVnLIqe-", "&2D0-", "&3AA-", "&APx-",
        "a\n", "&AOQA-", "&A-",   "&=-",      "&AOQ=-", "&2D0APA-",
    };

    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(MAX);

        assert_int_equal(utf7_encode(str_from(pairs[i][0]), &out), 0);
        EQUAL(&out, pairs[i][1]);
        buf_clear(&out);
        assert_int_equal(utf7_decode(str_from(pairs[i][1]), &out), 0);
        EQUAL(&out, pairs[i][0]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(MAX);

        if (utf7_decode(str_from(bad[i]), &out) != -EINVAL || out.len)
            fail_msg("%s: %s", bad[i], buf_cstr(&out));
    }
    _cleanup_buf_ struct buf out = BUF_INIT(MAX);

    assert_int_equal(utf7_encode(STR("a\xff"), &out), -EINVAL);
    assert_int_equal(out.len, 0);
}

/* One code point after the other survives, and has one form only. */
static void modified_utf7_all(void **state)
{
    for (uint32_t u = 1; u < 0x110000; u += u < 0x3000 ? 1 : 97) {
        _cleanup_buf_ struct buf text = BUF_INIT(20), out = BUF_INIT(40), back = BUF_INIT(20);
        char b[4] = {(char)(0xf0 | u >> 18), (char)(0x80 | (u >> 12 & 63)), (char)(0x80 | (u >> 6 & 63)),
                     (char)(0x80 | (u & 63))};
        size_t from = u < 0x80 ? 3 : u < 0x800 ? 2 : u < 0x10000 ? 1 : 0;

        if (u >= 0xd800 && u < 0xe000)
            continue;
        if (from == 3)
            b[3] = (char)u;
        else if (from == 2)
            b[2] = (char)(0xc0 | u >> 6);
        else if (from == 1)
            b[1] = (char)(0xe0 | u >> 12);
        assert_int_equal(buf_add(&text, b + from, 4 - from), 0);
        assert_int_equal(utf7_encode(buf_str(&text), &out), 0);
        assert_int_equal(utf7_decode(buf_str(&out), &back), 0);
        assert_true(str_eq(buf_str(&text), buf_str(&back)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding),
        cmocka_unit_test(encoding_and_back),
        cmocka_unit_test(strict_base64),
        cmocka_unit_test(charset_conversion),
        cmocka_unit_test(charset_strictly),
        cmocka_unit_test(encoded_words),
        cmocka_unit_test(folds_anywhere),
        cmocka_unit_test(cut_bodies),
        cmocka_unit_test(encoded_words_in_linear_time),
        cmocka_unit_test(encoded_words_made),
        cmocka_unit_test(modified_utf7),
        cmocka_unit_test(modified_utf7_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
