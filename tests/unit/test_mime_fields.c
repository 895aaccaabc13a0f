/* Unit tests of shared/mime: fields found in one walk, against simple models over random headers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "shared/base/limits.h"
#include "shared/mime/envelope.h"
#include "shared/mime/fields.h"
#include "shared/mime/header.h"
#include "shared/mime/nstring.h"

#define MAX    (16u << 20)
#define ROUNDS 20000

/* What header fields, and what is none, are made of. */
static const char *const words[] = {
    "Date",       "subject", "FROM", "Sender", "Reply-To", "To", "tO",   "Cc", "Bcc", "In-Reply-To", "Message-ID",
    "References", "X-Foo",   ":",    ": ",     ":",        ":",  "\r\n", "\n", " ",   "\t",          "\r",
    "\r\n ",      "\n\t",    "a@b",  ",",      "x;",       "g:", "\"",   "\\", "(c)", "\x01",        "\xc3\xbc"};

static void random_header(struct buf *out)
{
    unsigned count = (unsigned)random() % 60;

    buf_clear(out);
    for (unsigned i = 0; i < count; i++) {
        if (random() % 4) {
            assert_int_equal(buf_add_str(out, str_from(words[(size_t)random() % ARRAY_SIZE(words)])), 0);
        } else { /* a whole field */
            assert_int_equal(buf_add_str(out, str_from(words[(size_t)random() % 12])), 0);
            assert_int_equal(buf_add_str(out, random() % 2 ? STR(": \"x\" <y@z>\r\n") : STR(":\n")), 0);
        }
    }
    if (random() % 20 == 0)
        assert_int_equal(buf_add_byte(out, '\0'), 0);
}

static size_t line_length(struct str s)
{
    ptrdiff_t nl = str_chr(s, '\n');

    return nl < 0 ? s.len : (size_t)nl + 1;
}

static bool is_end(struct str s)
{
    return str_starts(s, STR("\n")) || str_starts(s, STR("\r\n"));
}

/* header_next() as its comment says it. */
static bool model_next(struct str *rest, struct header_field *ret)
{
    size_t end = line_length(*rest);
    struct str line = str_sub(*rest, 0, end), name;
    ptrdiff_t colon = str_chr(line, ':');

    if (!rest->len || is_end(*rest))
        return false;
    while (end < rest->len && (rest->ptr[end] == ' ' || rest->ptr[end] == '\t'))
        end += line_length(str_sub(*rest, end, rest->len));
    ret->raw = str_sub(*rest, 0, end);
    name = str_sub(line, 0, colon < 0 ? 0 : (size_t)colon);
    while (name.len && (name.ptr[name.len - 1] == ' ' || name.ptr[name.len - 1] == '\t'))
        name.len--;
    if (str_chr(name, ' ') >= 0 || str_chr(name, '\t') >= 0)
        name.len = 0;
    ret->name = name;
    ret->body = name.len ? str_sub(ret->raw, (size_t)colon + 1, end) : ret->raw;
    if (str_ends(ret->body, STR("\n")))
        ret->body.len--;
    if (str_ends(ret->body, STR("\r")))
        ret->body.len--;
    *rest = str_sub(*rest, end, rest->len);
    return true;
}

static void assert_same_view(struct str a, struct str b)
{
    assert_int_equal(a.len, b.len);
    assert_true(!a.len || a.ptr == b.ptr);
}

static void walk(void **state)
{
    _cleanup_buf_ struct buf header = BUF_INIT(MAX);

    srandom(1);
    for (unsigned n = 0; n < ROUNDS; n++) {
        struct header_field field, expected;
        struct header_iter i;
        struct str rest;
        bool is_there;

        random_header(&header);
        rest = buf_str(&header);
        i = header_iterate(rest);
        do {
            is_there = model_next(&rest, &expected);
            assert_int_equal(header_next(&i, &field), is_there);
            if (is_there) {
                assert_same_view(field.raw, expected.raw);
                assert_same_view(field.name, expected.name);
                assert_same_view(field.body, expected.body);
            }
            assert_same_view(i.rest, rest);
        } while (is_there);
    }
}

static void known_names(void **state)
{
    static const char *const others[] = {"",         "T",       "Xo",          "Tx",         "Xcc",
                                         "Xate",     "Frox",    "Xender",      "Referencex", "Message-IX",
                                         "Reply_To", "Subjekt", "In-Reply-Tx", "To ",        "MIME-Version"};
    static const char *const known[FIELD_NAMES] = {"DATE", "subject", "From",        "sender",     "reply-to",  "tO",
                                                   "cc",   "bCC",     "IN-REPLY-TO", "message-id", "references"};

    for (enum field_name n = 0; n < FIELD_NAMES; n++) {
        assert_int_equal(field_name_find(str_from(known[n])), n);
        assert_int_equal(envelope_needs(str_from(known[n])), n != FIELD_REFERENCES);
    }
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        assert_int_equal(field_name_find(str_from(others[i])), FIELD_NAMES);
    assert_int_equal(field_name_find(STR_NULL), FIELD_NAMES);
}

/* All that one walk tells is what header_find() and header_select() tell of each name. */
static void known_fields(void **state)
{
    static const struct str names[FIELD_NAMES] = {
        {"Date", 4}, {"Subject", 7}, {"From", 4},         {"Sender", 6},      {"Reply-To", 8},   {"To", 2},
        {"Cc", 2},   {"Bcc", 3},     {"In-Reply-To", 11}, {"Message-ID", 10}, {"References", 10}};
    _cleanup_buf_ struct buf header = BUF_INIT(MAX), selected = BUF_INIT(MAX), expected = BUF_INIT(MAX);

    srandom(2);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct str chosen[FIELD_NAMES];
        struct header_field first;
        struct header_fields found;
        unsigned set = (unsigned)random() % FIELD_BIT(FIELD_NAMES);
        size_t count = 0;

        random_header(&header);
        header_fields_find(buf_str(&header), &found);
        for (enum field_name n = 0; n < FIELD_NAMES; n++) {
            bool is_there = header_find(buf_str(&header), names[n], &first);

            assert_int_equal(found.body[n].ptr != NULL, is_there);
            if (is_there) {
                assert_same_view(found.body[n], first.body);
                assert_same_view(found.raw[n], first.raw);
            }
            if (set & FIELD_BIT(n))
                chosen[count++] = names[n];
        }
        buf_clear(&selected);
        buf_clear(&expected);
        assert_int_equal(header_fields_select(&found, set, &selected), 0);
        assert_int_equal(header_select(buf_str(&header), chosen, count, false, &expected), 0);
        assert_true(str_eq(buf_str(&selected), buf_str(&expected)));
    }
}

static void no_room(void **state)
{
    _cleanup_buf_ struct buf small = BUF_INIT(13);
    struct header_fields found;

    header_fields_find(STR("Date: x\r\nTo: y\r\n\r\n"), &found);
    assert_int_equal(header_fields_select(&found, FIELD_BIT(FIELD_DATE), &small), 0);
    buf_clear(&small);
    assert_int_equal(header_fields_select(&found, FIELD_BIT(FIELD_DATE) | FIELD_BIT(FIELD_TO), &small), -ENOBUFS);
    assert_int_equal(small.len, 0);
}

/* One envelope goes from header to header; what it prints is what a new one prints. */
static void envelope_again(void **state)
{
    _cleanup_buf_ struct buf header = BUF_INIT(MAX), again = BUF_INIT(MAX), fresh = BUF_INIT(MAX);
    _cleanup_buf_ struct buf first = BUF_INIT(MAX);
    const struct addr *a, *b;
    struct envelope e;

    srandom(3);
    envelope_init(&e);
    for (unsigned round = 0; round < ROUNDS / 4; round++) {
        random_header(&header);
        if (round % 512 == 0) { /* more than is kept */
            buf_clear(&header);
            assert_int_equal(buf_add_str(&header, STR("Subject: ")), 0);
            for (unsigned i = 0; i < 40000; i++)
                assert_int_equal(buf_add_str(&header, i == 20000 ? STR("x\r\nTo: ") : STR("a,")), 0);
        }
        envelope_read(&e, buf_str(&header));
        buf_clear(&again);
        buf_clear(&fresh);
        if (round % 2) { /* before it is printed as well */
            assert_int_equal(envelope_first_address(&e, FIELD_TO, &a), 0);
            buf_clear(&first);
            assert_int_equal(a ? buf_add_str(&first, a->mailbox) : 0, 0);
        }
        assert_int_equal(envelope_add(&e, false, &again), 0);
        assert_int_equal(envelope_print(buf_str(&header), false, &fresh), 0);
        assert_true(str_eq(buf_str(&again), buf_str(&fresh)));
        assert_int_equal(envelope_first_address(&e, FIELD_TO, &b), 0);
        assert_true(round % 2 == 0 || str_eq(buf_str(&first), b ? b->mailbox : STR_NULL));
    }
    envelope_finish(&e);
}

static void first_addresses(void **state)
{
    static const struct {
        const char *header;
        const char *mailbox; /* NULL: none */
    } table[] = {
        {"To: a@x, b@x\r\nTo: c@x\r\n", "a"}, {"To:\r\nTo: c@x\r\n", NULL}, /* the first field counts, though it is
                                                                               empty */
        {"To: friends: d@x;\r\n", "friends"}, {"Cc: e@x\r\n", NULL},        {"", NULL},
    };
    const struct addr *a;
    struct envelope e;

    envelope_init(&e);
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        envelope_read(&e, str_from(table[i].header));
        assert_int_equal(envelope_first_address(&e, FIELD_TO, &a), 0);
        assert_int_equal(a != NULL, table[i].mailbox != NULL);
        assert_true(!a || str_eq(a->mailbox, str_from(table[i].mailbox)));
    }
    envelope_finish(&e);
}

/* Bytes that come in pieces of any size make the same header as at once. */
static void collected(void **state)
{
    _cleanup_buf_ struct buf header = BUF_INIT(MAX);
    struct header_collector c;

    srandom(4);
    header_collector_init(&c);
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t at = 0, used = 0, piece = 1 + (size_t)random() % (random() % 2 ? 3 : 200), length;
        bool is_whole;

        random_header(&header);
        length = header_length(buf_str(&header), &is_whole);
        header_collector_clear(&c);
        while (at < header.len && !c.is_whole) {
            assert_int_equal(header_collect(&c, str_sub(buf_str(&header), at, piece), &used), 0);
            at += used;
        }
        assert_int_equal(at, length);
        assert_int_equal(c.length, length);
        assert_int_equal(c.is_whole, is_whole);
        assert_true(str_eq(buf_str(&c.bytes), str_sub(buf_str(&header), 0, length)));
    }
    header_collector_finish(&c);
}

/* Whole fields only, as many as fit, however large the pieces are. */
static void collect_to_limit(struct str header)
{
    size_t sizes[] = {1000, 65536, 2 * LIMIT_HEADER, 1, 7}, kept = 0;

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct header_collector c;
        size_t used;

        header_collector_init(&c);
        for (size_t at = 0; !c.is_whole; at += used)
            assert_int_equal(header_collect(&c, str_sub(header, at, sizes[i]), &used), 0);
        assert_true(c.is_cut);
        assert_int_equal(c.length, header.len - 4);
        assert_true(c.bytes.len > LIMIT_HEADER - 2000 && c.bytes.len <= LIMIT_HEADER);
        assert_true(str_starts(header, buf_str(&c.bytes)) && header.ptr[c.bytes.len] == 'A');
        assert_true(i == 0 || c.bytes.len == kept);
        kept = c.bytes.len;
        header_collector_finish(&c);
    }
}

static void collected_at_the_limit(void **state)
{
    for (int folds = 0; folds < 2; folds++) {
        _cleanup_buf_ struct buf header = BUF_INIT(MAX);

        while (header.len < LIMIT_HEADER + 5000)
            assert_int_equal(
                buf_add_str(&header, folds && random() % 2 ? STR(" folded\n") : STR("A: 0123456789\r\n")), 0);
        assert_int_equal(buf_add_str(&header, STR("\r\nbody")), 0);
        collect_to_limit(buf_str(&header));
    }
}

/* Strings of every length around a word, each with one byte of every value at every place. */
static void strings_of_any_bytes(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(MAX), expected = BUF_INIT(MAX);
    char bytes[20];

    for (size_t len = 1; len <= sizeof(bytes); len++) {
        for (size_t at = 0; at < len * 256; at++) {
            char c = (char)(at % 256);
            bool is_literal = c == '\r' || c == '\n' || c == '\0' || (unsigned char)c >= 0x80;
            struct str s = {bytes, len};

            memset(bytes, 'a', sizeof(bytes));
            bytes[at / 256] = c;
            assert_int_equal(str_is_printable(s), (unsigned char)c >= ' ' && (unsigned char)c < 0x80);
            buf_clear(&out);
            buf_clear(&expected);
            assert_int_equal(nstring_add(&out, s, false), 0);
            if (is_literal)
                assert_int_equal(buf_printf(&expected, "{%zu}\r\n", len - (c == '\0')), 0);
            for (size_t i = 0; i < len; i++)
                if (bytes[i])
                    assert_int_equal(buf_printf(&expected, "%s%s%c%s", i || is_literal ? "" : "\"",
                                                !is_literal && (bytes[i] == '"' || bytes[i] == '\\') ? "\\" : "",
                                                bytes[i], i + 1 < len || is_literal ? "" : "\""),
                                     0);
            assert_true(str_eq(buf_str(&out), buf_str(&expected)));
        }
    }
    assert_true(str_is_printable(STR_NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(walk),
        cmocka_unit_test(known_names),
        cmocka_unit_test(known_fields),
        cmocka_unit_test(no_room),
        cmocka_unit_test(envelope_again),
        cmocka_unit_test(first_addresses),
        cmocka_unit_test(collected),
        cmocka_unit_test(collected_at_the_limit),
        cmocka_unit_test(strings_of_any_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
