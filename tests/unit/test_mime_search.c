/* Unit tests of shared/mime: encodings, charsets, encoded words, modified UTF-7, folding, searching, subjects,
 * previews. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "shared/base/buf.h"
#include "shared/mime/fold.h"
#include "shared/mime/preview.h"
#include "shared/mime/search.h"
#include "shared/mime/subject.h"

#define MAX (4u << 20)

#define EQUAL(b, expected) assert_string_equal(buf_cstr(b), expected)

static void folding(void **state)
{
    static const char *const pairs[][2] = {
        {"abcdefghijklmnopqrstuvwxyz@[`{", "ABCDEFGHIJKLMNOPQRSTUVWXYZ@[`{"},
        {"Gr\xc3\xbc\xc3\x9f\x65", "GRU\xcc\x88\xc3\x9f\x45"},
        {"\xc7\x84", "Dz\xcc\x8c"}, /* the example of RFC 5051 2 */
        {"\xef\xac\x81", "fi"},     /* the ligature: decomposed behind the title case */
        {"\xff\x61", "\xff\x41"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(MAX);

        assert_int_equal(fold_text(str_from(pairs[i][0]), &out), 0);
        EQUAL(&out, pairs[i][1]);
    }
}

static const struct {
    const char *needle;
    const char *text;
    bool is_found;
} searches[] = {
    {"", "", true},
    {"", "x", true},
    {"x", "", false},
    {"needle", "a haystack with a NEEDLE in it", true},
    {"needle", "needl", false},
    {"needle", "needl needlee", true},
    {"GR\xc3\x9c\xc3\x9f\x65", "viele gr\xc3\xbc\xc3\x9f\x65!", true},
    {"gru\xcc\x88", "GR\xc3\x9c", true},
    {"\xc3\xa4", "\xc3", false},
    {"aab", "aaaaaaab", true},
    {"\xe2\x82\xac", "100\xe2\x82\xac", true},
};

static void searching(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(searches); i++) {
        struct str text = str_from(searches[i].text);
        bool is_in_whole = !searches[i].is_found;
        struct fold_search *s;

        assert_int_equal(fold_search_new(str_from(searches[i].needle), &s), 0);
        for (size_t piece = 1; piece <= text.len + 1; piece++) {
            bool is_found = false;

            fold_search_reset(s);
            for (size_t at = 0; at <= text.len; at += piece)
                assert_int_equal(fold_search_feed(s, str_sub(text, at, piece), &is_found), 0);
            assert_int_equal(fold_search_end(s, &is_found), 0);
            if (is_found != searches[i].is_found)
                fail_msg("%s in %s, pieces of %zu", searches[i].needle, searches[i].text, piece);
        }
        assert_int_equal(fold_search_text(s, text, &is_in_whole), 0);
        if (is_in_whole != searches[i].is_found)
            fail_msg("%s in %s as a whole", searches[i].needle, searches[i].text);
        fold_search_free(s);
    }
}

/* What stands where a long text is cut, or ends in the middle of a character; and nothing is left of the text before.
 */
static void searching_long_texts(void **state)
{
    struct fold_search *s;

    assert_int_equal(fold_search_new(STR("n\xc3\xa4h"), &s), 0);
    for (size_t before = 16370; before < 16400; before++) {
        _cleanup_buf_ struct buf text = BUF_INIT(MAX);
        bool is_found = false;

        while (text.len < before)
            assert_int_equal(buf_add_byte(&text, 'n'), 0);
        assert_int_equal(fold_search_text(s, buf_str(&text), &is_found), 0);
        assert_false(is_found);
        assert_int_equal(fold_search_text(s, STR("\xc3\xa4h"), &is_found), 0);
        assert_false(is_found);
        assert_int_equal(buf_add(&text, "\xc3\x84", 2), 0);
        assert_int_equal(fold_search_text(s, str_sub(buf_str(&text), 0, text.len - 1), &is_found), 0);
        assert_false(is_found);
        assert_int_equal(buf_add_byte(&text, 'H'), 0);
        assert_int_equal(fold_search_text(s, buf_str(&text), &is_found), 0);
        assert_true(is_found);
    }
    fold_search_free(s);
    /* What is no character is looked for as it is. */
    assert_int_equal(fold_search_new(STR("n\xc3"), &s), 0);
    for (size_t len = 100; len < 40000; len += 100) {
        _cleanup_buf_ struct buf text = BUF_INIT(MAX);
        bool is_found = false;

        while (text.len < len)
            assert_int_equal(buf_add_byte(&text, 'N'), 0);
        assert_int_equal(buf_add_byte(&text, '\xc3'), 0);
        assert_int_equal(fold_search_text(s, buf_str(&text), &is_found), 0);
        assert_true(is_found);
    }
    fold_search_free(s);
}

static const char search_message[] = "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
                                     "Content-Type: multipart/mixed; boundary=b\r\n"
                                     "\r\n"
                                     "preamble\r\n"
                                     "--b\r\n"
                                     "Content-Type: text/plain; charset=iso-8859-1\r\n"
                                     "Content-Transfer-Encoding: quoted-printable\r\n"
                                     "X-Part: partheader\r\n"
                                     "\r\n"
                                     "sch=F6ne w=\r\nelt\r\n"
                                     "--b\r\n"
                                     "Content-Type: text/html\r\n"
                                     "Content-Transfer-Encoding: base64\r\n"
                                     "\r\n"
                                     "PGI+aGVsbG88L2I+\r\n"
                                     "--b\r\n"
                                     "Content-Type: application/octet-stream\r\n"
                                     "\r\n"
                                     "binarystuff\r\n"
                                     "--b\r\n"
                                     "Content-Type: message/rfc822\r\n"
                                     "\r\n"
                                     "Subject: innersubject\r\n"
                                     "\r\n"
                                     "innerbody\r\n"
                                     "--b--\r\n"
                                     "epilogue\r\n";

static void searching_messages(void **state)
{
    static const struct {
        const char *needle;
        bool in_body, in_text;
    } table[] = {
        {"GR\xc3\x9c\xc3\x9f\x65", false, true},
        {"SCH\xc3\x96NE WELT", true, true},
        {"<b>hello</b>", true, true},
        {"binarystuff", false, false},
        {"innersubject", true, true},
        {"innerbody", true, true},
        {"partheader", false, true},
        {"preamble", false, false},
        {"epilogue", false, false},
        {"subject: gr", false, true},
        {"weltPG", false, false},
        {"", true, true},
    };
    struct str message = str_from(search_message);

    for (size_t i = 0; i < 2 * ARRAY_SIZE(table); i++) {
        bool is_text = i & 1, expected = is_text ? table[i / 2].in_text : table[i / 2].in_body;
        struct mime_search *s;

        assert_int_equal(mime_search_new(str_from(table[i / 2].needle), is_text, &s), 0);
        for (size_t piece = 1; piece <= message.len; piece += piece < 20 ? 1 : 97) {
            bool is_found = false;

            for (size_t at = 0; at < message.len && !is_found; at += piece)
                assert_int_equal(mime_search_feed(s, str_sub(message, at, piece), &is_found), 0);
            assert_int_equal(mime_search_end(s, &is_found), 0);
            if (is_found != expected)
                fail_msg("%s, pieces of %zu, text %d", table[i / 2].needle, piece, is_text);
        }
        mime_search_free(s);
    }
}

/* What a decoder holds back at the end of a part belongs to it, whatever header comes next. */
static void searching_ends_of_parts(void **state)
{
    static const char *const next[] = {"\r\ntext\r\n", "Content-Type: text/plain\r\n\r\ntext\r\n",
                                       "Content-Description: =?utf-8?q?x?=\r\n\r\ntext\r\n",
                                       "Content-Type: message/rfc822\r\n\r\n\r\nbody\r\n",
                                       "Content-Type: message/rfc822\r\n\r\nSubject: =?utf-8?q?x?=\r\n\r\nbody\r\n"};
    static const char *const texts[][2] = {{"dGhlIGdvb2QgbmVlZGxlcw", "needles"}, {"YWIgIA", "b  "}, {"YWIgIA", "  "}};

    for (size_t i = 0; i < 2 * ARRAY_SIZE(next) * ARRAY_SIZE(texts); i++) {
        const char *const *text = texts[i / 2 % ARRAY_SIZE(texts)];
        _cleanup_buf_ struct buf message = BUF_INIT(MAX);
        struct mime_search *s;
        bool is_found = false;

        assert_int_equal(buf_printf(&message,
                                    "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
                                    "Content-Transfer-Encoding: base64\r\n\r\n%s\r\n--b\r\n%s--b--\r\n",
                                    text[0], next[i / 2 / ARRAY_SIZE(texts)]),
                         0);
        assert_int_equal(mime_search_new(str_from(text[1]), i % 2 != 0, &s), 0);
        assert_int_equal(mime_search_feed(s, buf_str(&message), &is_found), 0);
        assert_int_equal(mime_search_end(s, &is_found), 0);
        if (!is_found)
            fail_msg("%s, text %zu, %s", text[1], i % 2, next[i / 2 / ARRAY_SIZE(texts)]);
        mime_search_free(s);
    }
}

static void base_subjects(void **state)
{
    static const struct {
        const char *subject;
        const char *expected;
        bool is_reply;
    } table[] = {
        {"hello", "hello", false},
        {" Re: hello", "hello", true},
        {"RE : Fwd: [list] fw: hello (fwd) (FWD) ", "hello", true},
        {"Re[2]: hello", "hello", true},
        {"Re [2]: hello", "hello", true},
        {"[list] hello", "hello", false},
        {"[only a blob]", "[only a blob]", false},
        {"[a] [b]", "[b]", false},
        {"[a] [b] Re: x", "x", true},
        {"[fwd: Re: hello]", "hello", true},
        {"[Fwd: [list] hello (fwd)]", "hello", true},
        {"[fwd: hello", "[fwd: hello", false},
        {"a\t\tb   c", "a b c", false},
        {"Re:", "", true},
        {"", "", false},
        {"=?utf-8?q?Re:_Gr=C3=BC=C3=9Fe?=", "Gr\xc3\xbc\xc3\x9f\x65", true},
        {"Reply: x", "Reply: x", false},
        {"(fwd)", "", true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT(MAX);
        bool is_reply;

        assert_int_equal(subject_base(str_from(table[i].subject), &out, &is_reply), 0);
        EQUAL(&out, table[i].expected);
        if (is_reply != table[i].is_reply)
            fail_msg("%s: %d", table[i].subject, is_reply);
    }
}

/* With tabs for blanks a subject has to be decoded and squeezed: it comes to the same. */
static void plain_subjects(void **state)
{
    static const char *const pieces[] = {" ", "a", "re:", "Fwd", "[x]", "fw :", "(fwd)", "[fwd:", "]", "=", "?q?a?="};
    uint32_t random = 1;

    for (unsigned round = 0; round < 20000; round++) {
        _cleanup_buf_ struct buf body = BUF_INIT(MAX), plain = BUF_INIT(MAX), squeezed = BUF_INIT(MAX);
        bool is_reply, is_squeezed_reply;

        for (unsigned n = 0; n < round % 11; n++) {
            random = random * 1664525 + 1013904223;
            assert_int_equal(buf_add_str(&body, str_from(pieces[(random >> 16) % ARRAY_SIZE(pieces)])), 0);
        }
        assert_int_equal(subject_base(buf_str(&body), &plain, &is_reply), 0);
        for (size_t i = 0; i < body.len; i++)
            if (body.data[i] == ' ')
                body.data[i] = '\t';
        assert_int_equal(subject_base(buf_str(&body), &squeezed, &is_squeezed_reply), 0);
        EQUAL(&plain, buf_cstr(&squeezed));
        assert_int_equal(is_reply, is_squeezed_reply);
    }
}

/* The preview of a whole message, its body fed in pieces. */
static void preview_of(struct str message, size_t piece, struct buf *out)
{
    _cleanup_mime_tree_ struct mime_tree t = {0};
    const struct mime_part *part;
    struct mime_parser *parser;
    struct preview *p;
    bool is_full = false;

    assert_int_equal(mime_parser_new(&parser), 0);
    assert_int_equal(mime_parser_feed(parser, message), 0);
    assert_int_equal(mime_parser_end(parser, &t), 0);
    mime_parser_free(parser);
    part = preview_part(t.root);
    if (!part)
        return;
    assert_int_equal(preview_new(part, &p), 0);
    for (uint64_t at = part->body; at < part->end && !is_full; at += piece) {
        size_t n = part->end - at < piece ? (size_t)(part->end - at) : piece;

        assert_int_equal(preview_feed(p, str_sub(message, (size_t)at, n), &is_full), 0);
    }
    assert_int_equal(preview_end(p, out), 0);
    preview_free(p);
}

static void previews(void **state)
{
    static const struct {
        const char *message;
        const char *expected;
    } table[] = {
        {"Subject: x\r\n\r\nHello,\r\n\r\n\tworld  \r\n", "Hello, world"},
        {"Subject: x\r\n\r\n> quoted\r\n>> more\r\nown text\r\n", "own text"},
        {"Subject: x\r\n\r\n> quoted\r\n> only\r\n", "> quoted > only"},
        {"Subject: x\r\n\r\n", ""},
        {"Content-Type: image/png\r\n\r\nxxx\r\n", ""},
        {"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
         "<html><head><title>no</title><style>p { color: red }</style></head><body>\r\n"
         "<!-- no > -- --><p title=3D\"a > b\">Hell<b>o</b>&nbsp;&amp; &#8364;&#x20ac;</p><br>1 < 2 &unknown; "
         "\xc3\xa4&zwnj;</body>",
         "Hello & \xe2\x82\xac\xe2\x82\xac 1 < 2 &unknown \xc3\xa4"},
        {"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: "
         "text/html\r\n\r\n<b>html</b>\r\n--b\r\n\r\n"
         "plain\r\n--b--\r\n",
         "plain"},
        {"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: "
         "attachment\r\n\r\nfile\r\n--b\r\n"
         "Content-Type: text/html\r\n\r\n<b>html\r\n--b--\r\n",
         "html"},
        {"Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\n\r\nVersion: 1\r\n--b--\r\n", ""},
        {"Subject: x\r\n\r\n\xef\xbb\xbf\xe2\x80\x8b pad\xc2\xad\x64ing\r\n", "padding"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        for (size_t piece = 1; piece < 300; piece += piece < 10 ? 1 : 41) {
            _cleanup_buf_ struct buf out = BUF_INIT(MAX);

            preview_of(str_from(table[i].message), piece, &out);
            EQUAL(&out, table[i].expected);
        }
    }
}

/* RFC 8970 3.3: never more than 256 characters. */
static void previews_are_short(void **state)
{
    _cleanup_buf_ struct buf message = BUF_INIT(MAX), out = BUF_INIT(MAX);
    size_t characters = 0;

    assert_int_equal(buf_add(&message, "Content-Type: text/plain; charset=utf-8\r\n\r\n", 43), 0);
    for (int i = 0; i < 60000; i++)
        assert_int_equal(buf_add(&message, "\xe2\x82\xac", 3), 0);
    preview_of(buf_str(&message), 1000, &out);
    assert_true(utf8_valid(buf_str(&out)));
    for (size_t i = 0; i < out.len; i++)
        characters += ((unsigned char)out.data[i] & 0xc0) != 0x80;
    assert_int_equal(characters, PREVIEW_CHARACTERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folding),
        cmocka_unit_test(searching),
        cmocka_unit_test(searching_long_texts),
        cmocka_unit_test(searching_messages),
        cmocka_unit_test(searching_ends_of_parts),
        cmocka_unit_test(base_subjects),
        cmocka_unit_test(plain_subjects),
        cmocka_unit_test(previews),
        cmocka_unit_test(previews_are_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
