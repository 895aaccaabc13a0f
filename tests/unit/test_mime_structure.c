/* Unit tests of shared/mime: structure, parameters, trees in the cache, BODYSTRUCTURE; fed whole and in every way. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/buf.h"
#include "shared/base/limits.h"
#include "shared/mime/bodystructure.h"
#include "shared/mime/structure.h"
#include "tests/unit/imap_syntax.h"

#define MAX (16u << 20)

/* `|` ends a line with CRLF, so that the tables below can be read. */
static void wire(const char *text, struct buf *out)
{
    for (; *text; text++)
        assert_int_equal(*text == '|' ? buf_add(out, "\r\n", 2) : buf_add_byte(out, *text), 0);
}

static void parse(struct mime_parser *p, struct str message, size_t piece, struct mime_tree *ret)
{
    for (size_t at = 0; at < message.len; at += piece)
        assert_int_equal(mime_parser_feed(p, str_sub(message, at, piece)), 0);
    assert_int_equal(mime_parser_end(p, ret), 0);
}

static void check_ranges(const struct mime_part *part, uint64_t from, uint64_t to)
{
    uint64_t last = part->body;
    uint32_t number = 0;

    assert_true(part->header >= from && part->body >= part->header && part->end >= part->body && part->end <= to);
    for (const struct mime_part *c = part->child; c; c = c->next) {
        assert_ptr_equal(c->parent, part);
        assert_int_equal(c->number, ++number);
        assert_true(c->header >= last);
        check_ranges(c, part->body, part->end);
        last = c->end;
    }
    assert_int_equal(number, part->child_count);
    assert_true(part->kind == MIME_LEAF ? number == 0 : part->kind == MIME_MESSAGE ? number == 1 : number >= 1);
}

/* The cache gives back the same tree; no prefix of it is taken for one. */
static void check_cache(const struct mime_tree *t, uint64_t size, struct str printed)
{
    _cleanup_buf_ struct buf bytes = BUF_INIT(MAX), again = BUF_INIT(MAX);
    _cleanup_mime_tree_ struct mime_tree copy = {0};
    struct mime_tree none;

    assert_int_equal(mime_tree_write(t, &bytes), 0);
    assert_int_equal(mime_tree_read(buf_str(&bytes), size, &copy), 0);
    check_ranges(copy.root, 0, size);
    assert_int_equal(bodystructure_print(copy.root, true, false, &again), 0);
    assert_true(str_eq(buf_str(&again), printed));
    if (bytes.len < 5000) {
        for (size_t n = 0; n < bytes.len; n++)
            assert_int_equal(mime_tree_read(str_sub(buf_str(&bytes), 0, n), size, &none), -EBADMSG);
    }
    assert_int_equal(buf_add_byte(&bytes, 0), 0);
    assert_int_equal(mime_tree_read(buf_str(&bytes), size, &none), -EBADMSG);
    buf_truncate(&bytes, bytes.len - 1);
    assert_int_equal(mime_tree_read(buf_str(&bytes), size + 1, &none), -EBADMSG);
}

/* The BODYSTRUCTURE of a message, the same however it is fed. */
static void structure_of(struct str message, struct mime_tree *ret, struct buf *out)
{
    struct mime_parser *p;
    size_t pieces[] = {1, 2, 3, 7, 64, message.len + 1};

    assert_int_equal(mime_parser_new(&p), 0);
    for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
        _cleanup_buf_ struct buf text = BUF_INIT(MAX);
        _cleanup_mime_tree_ struct mime_tree t = {0};

        parse(p, message, pieces[i], &t);
        check_ranges(t.root, 0, message.len);
        assert_int_equal(t.root->end, message.len);
        assert_int_equal(bodystructure_print(t.root, true, false, &text), 0);
        assert_true(is_body(buf_str(&text), true, false));
        if (i == 0)
            assert_int_equal(buf_add_str(out, buf_str(&text)), 0);
        assert_string_equal(buf_cstr(&text), buf_cstr(out));
    }
    parse(p, message, message.len + 1, ret);
    mime_parser_free(p);
    check_cache(ret, message.len, buf_str(out));
}

#define PLAIN "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" "
#define TAIL  " NIL NIL NIL NIL)"

static const struct {
    const char *name;
    const char *message;
    const char *expected;
} messages[] = {
    {"empty", "", PLAIN "0 0" TAIL},
    {"header only", "Subject: x|", PLAIN "0 0" TAIL},
    {"no header", "|body|", PLAIN "6 1" TAIL},
    {"no line end", "|body", PLAIN "4 0" TAIL},
    {"no separator", "Subject: x|this is no header|", PLAIN "0 0" TAIL},
    {"type without subtype", "Content-Type: text||x|", PLAIN "3 1" TAIL},
    {"garbage type", "Content-Type: ;;;=||x|", PLAIN "3 1" TAIL},
    {"type in odd case", "CONTENT-type: Text/HTML; CHARSET=UTF-8||<b>|",
     "(\"Text\" \"HTML\" (\"CHARSET\" \"UTF-8\") NIL NIL \"7bit\" 5 1" TAIL},
    {"comments and folds", "Content-Type: text/plain (really);|\tcharset (a)=(what?) us-ascii (yes); format=flowed||x|",
     "(\"text\" \"plain\" (\"charset\" \"us-ascii\" \"format\" \"flowed\") NIL NIL \"7bit\" 3 1" TAIL},
    {"not text",
     "Content-Type: image/png|Content-Transfer-Encoding: BASE64|Content-ID: <a@b>|"
     "Content-Description: a \"picture\"|Content-MD5: Q2hlY2s=|Content-Language: en|Content-Location: a.png||AAAA|",
     "(\"image\" \"png\" NIL \"<a@b>\" \"a \\\"picture\\\"\" \"BASE64\" 6 \"Q2hlY2s=\" NIL \"en\" \"a.png\")"},
    {"two parts",
     "Content-Type: multipart/mixed; boundary=\"b\"||preamble|--b||one|--b|Content-Type: "
     "text/html||<p>|two|--b--|epilogue|",
     "(" PLAIN "3 0" TAIL "(\"text\" \"html\" NIL NIL NIL \"7bit\" 8 1" TAIL
     " \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)"},
    {"empty parts", "Content-Type: multipart/mixed; boundary=b||--b||--b|--b||||--b--|",
     "(" PLAIN "0 0" TAIL PLAIN "0 0" TAIL PLAIN "2 1" TAIL " \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)"},
    {"never closed", "Content-Type: multipart/mixed; boundary=b||--b||one|",
     "(" PLAIN "5 1" TAIL " \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)"},
    {"closed at once: the body is shown", "Content-Type: multipart/mixed; boundary=b||hello|--b--|",
     "((\"text\" \"plain\" NIL NIL NIL \"7bit\" 14 2" TAIL " \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)"},
    {"no boundary: the body is shown", "Content-Type: multipart/mixed||--b||hello|--b--|",
     "((\"text\" \"plain\" NIL NIL NIL \"7bit\" 21 4" TAIL " \"mixed\" NIL NIL NIL NIL)"},
    {"delimiter without line end", "Content-Type: multipart/mixed; boundary=b||--b||one|--b--",
     "(" PLAIN "3 0" TAIL " \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)"},
    {"trailing blanks on delimiters", "Content-Type: multipart/mixed; boundary=b||--b \t||one|--b-- |",
     "(" PLAIN "3 0" TAIL " \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)"},
    {"what only begins like a delimiter", "Content-Type: multipart/mixed; boundary=b||--b||--bb|-b|--|---b|--b--|",
     "(" PLAIN "18 3" TAIL " \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)"},
    {"inner boundary is a prefix of the outer",
     "Content-Type: multipart/mixed; boundary=bb||--bb|Content-Type: multipart/alternative; "
     "boundary=b||--b||one|--b--||--bb||"
     "two|--bb--|",
     "((" PLAIN "3 0" TAIL " \"alternative\" (\"boundary\" \"b\") NIL NIL NIL)" PLAIN "3 0" TAIL
     " \"mixed\" (\"boundary\" \"bb\") NIL NIL NIL)"},
    {"outer boundary is a prefix of the inner",
     "Content-Type: multipart/mixed; boundary=b||--b|Content-Type: multipart/alternative; "
     "boundary=bb||--bb||one|--bb--||--b||"
     "two|--b--|",
     "((" PLAIN "3 0" TAIL " \"alternative\" (\"boundary\" \"bb\") NIL NIL NIL)" PLAIN "3 0" TAIL
     " \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)"},
    {"inner multipart never closed",
     "Content-Type: multipart/mixed; boundary=a||--a|Content-Type: multipart/alternative; "
     "boundary=b||--b||one|--a||two|--a--|",
     "((" PLAIN "3 0" TAIL " \"alternative\" (\"boundary\" \"b\") NIL NIL NIL)" PLAIN "3 0" TAIL
     " \"mixed\" (\"boundary\" \"a\") NIL NIL NIL)"},
    {"part header without an empty line",
     "Content-Type: multipart/mixed; boundary=b||--b|Content-Type: text/html|--b--|",
     "((\"text\" \"html\" NIL NIL NIL \"7bit\" 0 0" TAIL " \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)"},
    {"digest", "Content-Type: multipart/digest; boundary=b||--b||Subject: in||x|--b--|",
     "((\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 16 (NIL \"in\" NIL NIL NIL NIL NIL NIL NIL NIL) " PLAIN "1 0" TAIL
     " 2 NIL NIL NIL NIL) \"digest\" (\"boundary\" \"b\") NIL NIL NIL)"},
    {"message", "Content-Type: message/rfc822||From: a@b|Content-Type: text/html||<p>|",
     "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 43 (NIL NIL ((NIL NIL \"a\" \"b\")) ((NIL NIL \"a\" \"b\")) ((NIL "
     "NIL \"a\" "
     "\"b\")) NIL NIL NIL NIL NIL) (\"text\" \"html\" NIL NIL NIL \"7bit\" 5 1" TAIL " 4 NIL NIL NIL NIL)"},
    {"message in base64 stays closed", "Content-Type: message/rfc822|Content-Transfer-Encoding: base64||RnJvbTogYUBi|",
     "(\"message\" \"rfc822\" NIL NIL NIL \"base64\" 14 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) (\"text\" \"plain\" "
     "NIL NIL "
     "NIL \"base64\" 14 1" TAIL " 1 NIL NIL NIL NIL)"},
    {"message that ends with its header",
     "Content-Type: multipart/mixed; boundary=b||--b|Content-Type: message/rfc822||Subject: x||--b--|",
     "((\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 12 (NIL \"x\" NIL NIL NIL NIL NIL NIL NIL NIL) " PLAIN "0 0" TAIL
     " 1 NIL NIL NIL NIL) \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)"},
    {"language list", "Content-Language: en, de ,,fr||x|", PLAIN "3 1 NIL NIL (\"en\" \"de\" \"fr\") NIL)"},
    {"RFC 2231: continued, in a charset, and both",
     "Content-Type: application/x-stuff; title*0*=us-ascii'en'This%20is%20even%20more%20; "
     "title*1*=%2A%2A%2Afun%2A%2A%2A%20;"
     " title*2=\"isn't it!\"; n*=utf-8''%e2%82%ac; u*0=ab; u*1=\"c d\"||x|",
     "(\"application\" \"x-stuff\" (\"title*\" "
     "\"us-ascii'en'This%20is%20even%20more%20%2A%2A%2Afun%2A%2A%2A%20isn%27t%20it!\" \"n*\" \"utf-8''%e2%82%ac\" "
     "\"u\" \"abc d\")"
     " NIL NIL \"7bit\" 3" TAIL},
    {"extended before plain", "Content-Disposition: attachment; filename=\"x.txt\"; filename*=utf-8''y.txt||x|",
     PLAIN "3 1 NIL (\"attachment\" (\"filename*\" \"utf-8''y.txt\")) NIL NIL)"},
    {"unquoted file name with blanks", "Content-Disposition: attachment; filename=my file.txt; size=3||x|",
     PLAIN "3 1 NIL (\"attachment\" (\"filename\" \"my file.txt\" \"size\" \"3\")) NIL NIL)"},
    {"unclosed quote", "Content-Type: text/plain; name=\"a;b||x|",
     "(\"text\" \"plain\" (\"name\" \"a;b\") NIL NIL \"7bit\" 3 1" TAIL},
    {"8-bit and quotes", "Content-Type: text/plain; name=\"\xe4\\\"\"||x|",
     "(\"text\" \"plain\" (\"name\" {2}\r\n\xe4\") NIL NIL \"7bit\" 3 1" TAIL},
    {"first field counts", "Content-Type: text/html|Content-Type: text/plain||x|",
     "(\"text\" \"html\" NIL NIL NIL \"7bit\" 3 1" TAIL},
    {"bare LF", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\ntwo\n--b--\n",
     "(" PLAIN "7 1" TAIL " \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)"},
    {"blanks at the end of a boundary",
     "Content-Type: multipart/mixed; boundary=\"a b \"||--a b||z|--a b  ||y|--a b--|",
     "(" PLAIN "1 0" TAIL PLAIN "1 0" TAIL " \"mixed\" (\"boundary\" \"a b \") NIL NIL NIL)"},
    {"quoted values", "Content-Transfer-Encoding: \"8bit\" (c)|Content-Disposition: \"inline\"; size=3||x|",
     "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"8bit\" 3 1 NIL (\"inline\" (\"size\" \"3\")) NIL NIL)"},
    {"empty boundary", "Content-Type: multipart/mixed; boundary=\"\"||--||x|",
     "((\"text\" \"plain\" NIL NIL NIL \"7bit\" 9 3" TAIL " \"mixed\" (\"boundary\" \"\") NIL NIL NIL)"},
};

static void nasty_messages(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
        _cleanup_buf_ struct buf message = BUF_INIT(MAX), text = BUF_INIT(MAX);
        _cleanup_mime_tree_ struct mime_tree t = {0};

        wire(messages[i].message, &message);
        structure_of(buf_str(&message), &t, &text);
        if (strcmp(buf_cstr(&text), messages[i].expected) != 0)
            fail_msg("%s:\n got      %s\n expected %s", messages[i].name, buf_cstr(&text), messages[i].expected);
    }
}

/* The body of a section, as its number is written in IMAP. */
static struct str section(struct str message, const struct mime_tree *t, const char *numbers,
                          const struct mime_part **ret)
{
    uint32_t path[16];
    size_t count = 0;
    struct str rest = str_from(numbers), one;

    while (rest.len) {
        (void)str_cut(&rest, '.', &one);
        assert_int_equal(str_to_u32(one, &path[count++]), 0);
    }
    *ret = mime_part_find(t->root, path, count);
    return *ret ? str_sub(message, (size_t)(*ret)->body, (size_t)((*ret)->end - (*ret)->body)) : STR_NULL;
}

/* RFC 9051 6.4.5.1 */
static void sections(void **state)
{
    static const struct {
        const char *numbers;
        const char *body; /* NULL: there is none */
    } expected[] = {
        {"1", "one"},
        {"1.1", NULL},
        {"2", "Subject: in|Content-Type: multipart/alternative; boundary=i||--i||plain|--i|Content-Type: "
              "message/rfc822||Subject: "
              "deep||deep body|--i--|"},
        {"2.1", "plain"},
        {"2.2", "Subject: deep||deep body"},
        {"2.2.1", "deep body"},
        {"2.2.1.1", NULL},
        {"2.2.2", NULL},
        {"2.3", NULL},
        {"3", "three"},
        {"4", NULL},
        {"0", NULL},
    };
    _cleanup_buf_ struct buf message = BUF_INIT(MAX), text = BUF_INIT(MAX);
    _cleanup_mime_tree_ struct mime_tree t = {0};
    const struct mime_part *part;

    wire("Content-Type: multipart/mixed; boundary=o||--o||one|--o|Content-Type: message/rfc822||", &message);
    wire(expected[2].body, &message);
    wire("|--o|X: y||three|--o--|", &message);
    structure_of(buf_str(&message), &t, &text);
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        _cleanup_buf_ struct buf body = BUF_INIT(MAX);
        struct str found = section(buf_str(&message), &t, expected[i].numbers, &part);

        if (!expected[i].body) {
            assert_null(part);
            continue;
        }
        wire(expected[i].body, &body);
        assert_non_null(part);
        assert_true(str_eq(found, buf_str(&body)));
    }
    (void)section(buf_str(&message), &t, "3", &part);
    assert_true(str_eq(str_sub(buf_str(&message), (size_t)part->header, (size_t)(part->body - part->header)),
                       STR("X: y\r\n\r\n")));
    (void)section(buf_str(&message), &t, "2", &part);
    assert_int_equal(part->child->header, part->body);
}

/* "1" of a message that is not multipart is its body; "1.1" of one that is message/rfc822 is the inner one's. */
static void sections_of_single_parts(void **state)
{
    _cleanup_buf_ struct buf message = BUF_INIT(MAX), text = BUF_INIT(MAX);
    _cleanup_mime_tree_ struct mime_tree t = {0};
    const struct mime_part *part;

    wire("Content-Type: message/rfc822||A: b||inner|", &message);
    structure_of(buf_str(&message), &t, &text);
    assert_true(str_eq(section(buf_str(&message), &t, "1", &part), STR("A: b\r\n\r\ninner\r\n")));
    assert_true(str_eq(section(buf_str(&message), &t, "1.1", &part), STR("inner\r\n")));
    (void)section(buf_str(&message), &t, "1.1.1", &part);
    assert_null(part);
    (void)section(buf_str(&message), &t, "2", &part);
    assert_null(part);
}

static void nest(struct buf *out, unsigned levels)
{
    for (unsigned i = 0; i < levels; i++)
        assert_int_equal(buf_printf(out, "Content-Type: multipart/mixed; boundary=b%u\r\n\r\n--b%u\r\n", i, i), 0);
    assert_int_equal(buf_add(out, "\r\nbottom\r\n", 10), 0);
}

static void depth_is_limited(void **state)
{
    unsigned levels[] = {LIMIT_MIME_DEPTH - 2, LIMIT_MIME_DEPTH - 1, LIMIT_MIME_DEPTH, LIMIT_MIME_DEPTH + 1, 5000};

    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        _cleanup_buf_ struct buf message = BUF_INIT(MAX), text = BUF_INIT(MAX);
        _cleanup_mime_tree_ struct mime_tree t = {0};

        nest(&message, levels[i]);
        structure_of(buf_str(&message), &t, &text);
        assert_true(t.part_count <= LIMIT_MIME_DEPTH + 1);
    }
    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        _cleanup_buf_ struct buf message = BUF_INIT(MAX), text = BUF_INIT(MAX);
        _cleanup_mime_tree_ struct mime_tree t = {0};

        for (unsigned n = 0; n < levels[i]; n++)
            wire("Content-Type: message/rfc822||", &message);
        structure_of(buf_str(&message), &t, &text);
        assert_true(t.part_count <= LIMIT_MIME_DEPTH + 1);
    }
}

static void parts_are_limited(void **state)
{
    _cleanup_buf_ struct buf message = BUF_INIT(MAX), text = BUF_INIT(MAX);
    _cleanup_mime_tree_ struct mime_tree t = {0};
    const struct mime_part *last;

    wire("Content-Type: multipart/mixed; boundary=b||", &message);
    for (unsigned i = 0; i < LIMIT_MIME_PARTS + 100; i++)
        wire("--b||x|", &message);
    wire("--b--|", &message);
    structure_of(buf_str(&message), &t, &text);
    assert_int_equal(t.part_count, LIMIT_MIME_PARTS);
    for (last = t.root->child; last->next;)
        last = last->next;
    /* The root counts; the last one has the rest: 102 bodies, 101 delimiters. */
    assert_int_equal(last->end - last->body, 102 * 1 + 101 * 9);
}

static void text_is_limited(void **state)
{
    _cleanup_buf_ struct buf message = BUF_INIT(32u << 20), text = BUF_INIT(32u << 20);
    _cleanup_mime_tree_ struct mime_tree t = {0};
    struct mime_parser *p;

    wire("Content-Type: multipart/mixed; boundary=b||", &message);
    for (unsigned i = 0; i < 100; i++) {
        wire("--b|Content-Type: text/plain; name=\"", &message);
        for (unsigned n = 0; n < 1000; n++)
            wire("0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
                 &message);
        wire("\"||x|", &message);
    }
    assert_int_equal(mime_parser_new(&p), 0);
    parse(p, buf_str(&message), 65536, &t);
    mime_parser_free(p);
    assert_int_equal(t.root->child_count, 100);
    assert_int_equal(bodystructure_print(t.root, true, false, &text), 0);
    assert_true(text.len < LIMIT_MIME_TEXT + 100 * 100 && is_body(buf_str(&text), true, false));
}

/* A header over the limit, and a boundary that cannot be one. */
static void long_lines(void **state)
{
    _cleanup_buf_ struct buf message = BUF_INIT(MAX), text = BUF_INIT(MAX);
    _cleanup_mime_tree_ struct mime_tree t = {0};
    struct mime_parser *p;

    wire("Content-Type: multipart/mixed; boundary=b|X: ", &message);
    for (size_t i = 0; i < LIMIT_HEADER; i += 64)
        wire("0123456789012345678901234567890123456789012345678901234567890123", &message);
    wire("|Content-Type: text/html||--b||one|--b", &message);
    for (size_t i = 0; i < LIMIT_BOUNDARY + 100; i++)
        wire(" ", &message);
    wire("|--b--|", &message);
    assert_int_equal(mime_parser_new(&p), 0);
    parse(p, buf_str(&message), 4096, &t);
    mime_parser_free(p);
    assert_int_equal(bodystructure_print(t.root, false, false, &text), 0);
    assert_int_equal(t.root->child_count, 1);
    assert_int_equal(t.root->child->end - t.root->child->body, 3 + 2 + 3 + LIMIT_BOUNDARY + 100);
}

static void parameters(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(MAX);
    struct mime_params params = {0};
    struct str value;

    assert_int_equal(
        mime_params_parse(STR("attachment; filename*0*=iso-8859-1''%e4; filename*1=\"\\\"b\"; SIZE = 3 ; x"), &text,
                          &value, &params),
        0);
    assert_true(str_eq(value, STR("attachment")));
    assert_int_equal(params.count, 2);
    assert_true(str_eq(mime_param_get(&params, STR("FileName")), STR("\xc3\xa4\"b")));
    assert_true(str_eq(params.items[0].extended, STR("iso-8859-1''%e4%22b")));
    assert_true(str_eq(mime_param_get(&params, STR("size")), STR("3")));
    assert_null(mime_param_get(&params, STR("x")).ptr);
    free(params.items);
}

/* Bytes changed in the cache: refused or a tree that is sound, never a crash. */
static void damaged_cache(void **state)
{
    _cleanup_buf_ struct buf message = BUF_INIT(MAX), bytes = BUF_INIT(MAX), text = BUF_INIT(MAX);
    _cleanup_mime_tree_ struct mime_tree t = {0};

    wire(messages[16].message, &message);
    structure_of(buf_str(&message), &t, &text);
    assert_int_equal(mime_tree_write(&t, &bytes), 0);
    for (size_t i = 0; i < bytes.len; i++) {
        for (int value = 0; value < 256; value++) {
            _cleanup_mime_tree_ struct mime_tree copy = {0};
            char old = bytes.data[i];
            int r;

            bytes.data[i] = (char)value;
            r = mime_tree_read(buf_str(&bytes), message.len, &copy);
            bytes.data[i] = old;
            assert_true(r == 0 || r == -EBADMSG);
            if (r)
                continue;
            check_ranges(copy.root, 0, message.len);
            buf_clear(&text);
            assert_int_equal(bodystructure_print(copy.root, true, false, &text), 0);
        }
    }
}

struct collected {
    struct buf headers, bodies;
};

static int collect_header(void *context, const struct mime_part *part, struct str header)
{
    struct collected *c = context;

    assert_int_equal(
        buf_printf(&c->headers, "%.*s/%.*s[%.*s]", STR_ARG(part->type), STR_ARG(part->subtype), STR_ARG(header)), 0);
    return 0;
}

static int collect_body(void *context, const struct mime_part *part, struct str bytes)
{
    struct collected *c = context;

    return part->kind == MIME_LEAF ? buf_add_str(&c->bodies, bytes) : 0;
}

static void sink_sees_the_content(void **state)
{
    _cleanup_buf_ struct buf message = BUF_INIT(MAX);
    struct mime_parser *p;

    wire("Content-Type: multipart/mixed; boundary=b||no|--b||one|-x|--b|Content-Type: text/html||<p>|--c|--b--|no|",
         &message);
    for (size_t piece = 1; piece < message.len + 2; piece++) {
        struct collected c = {BUF_INIT(MAX), BUF_INIT(MAX)};
        _cleanup_mime_tree_ struct mime_tree t = {0};

        assert_int_equal(mime_parser_new(&p), 0);
        mime_parser_set_sink(p, &(struct mime_sink){&c, collect_header, collect_body});
        parse(p, buf_str(&message), piece, &t);
        mime_parser_free(p);
        assert_string_equal(buf_cstr(&c.bodies), "one\r\n-x\r\n<p>\r\n--c\r\n");
        assert_string_equal(buf_cstr(&c.headers),
                            "multipart/mixed[Content-Type: multipart/mixed; boundary=b\r\n\r\n]text/plain[\r\n]"
                            "text/html[Content-Type: text/html\r\n\r\n]");
        buf_finish(&c.headers);
        buf_finish(&c.bodies);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nasty_messages),
        cmocka_unit_test(sections),
        cmocka_unit_test(sections_of_single_parts),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(parts_are_limited),
        cmocka_unit_test(text_is_limited),
        cmocka_unit_test(long_lines),
        cmocka_unit_test(parameters),
        cmocka_unit_test(damaged_cache),
        cmocka_unit_test(sink_sees_the_content),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
