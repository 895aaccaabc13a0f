/*
 * SEARCH in header fields (RFC 9051 6.4.4) against a store in memory: what is found when messages are read must be what
 * is found in the cache, and what a look at one byte after the other finds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "handlers/imap/search.h"
#include "shared/base/limits.h"
#include "shared/mime/rfc2047.h"
#include "tests/unit/imap_store.h"

#define ROUNDS 3000

struct place {
    struct conf conf;
    struct imap imap;
};

static void set_up(struct place *p)
{
    memset(p, 0, sizeof(*p));
    p->conf.clock = (struct clock){.is_frozen = true, .epoch = 1700000000};
    p->imap.conf = &p->conf;
    assert_int_equal(mbox_store_new(&(struct mbox_store_options){.clock = &p->conf.clock}, &p->imap.store), 0);
}

static void open_box(struct place *p)
{
    assert_int_equal(mbox_open(p->imap.store, STR("INBOX"), 0, &p->imap.box), 0);
}

static void tear_down(struct place *p)
{
    assert_int_equal(mbox_close(p->imap.box), 0);
    mbox_store_free(p->imap.store);
    store_cut(0);
}

/* Does message 1 match one key? */
static bool is_found(struct place *p, struct search_key key)
{
    struct search q;
    bool is_match = false;
    int r;

    search_init(&q, &p->imap);
    q.root = q.newest = &key;
    r = search_match(&q, 1, &is_match);
    search_finish(&q);
    assert_int_equal(r, 0);
    return is_match;
}

static struct search_key in_field(const char *field, const char *text)
{
    return (struct search_key){.kind = SEARCH_HEADER, .field = str_from(field), .text = str_from(text)};
}

/* One search of a message that is there: read, kept by the first search, and from the cache alone. */
static void check(const char *message, const char *field, const char *text, bool expected)
{
    struct place p;

    set_up(&p);
    store_deliver("INBOX", message);
    open_box(&p);
    for (int round = 0; round < 2; round++)
        if (is_found(&p, in_field(field, text)) != expected)
            fail_msg("%s in %s, round %d of\n%s", text, field, round, message);
    store_cut(1); /* now a message that is read has vanished */
    if (is_found(&p, in_field(field, text)) != expected)
        fail_msg("%s in %s, from the cache, of\n%s", text, field, message);
    tear_down(&p);
}

static void test_fields(void **state)
{
    static const struct {
        const char *header, *field, *text;
        bool expected;
    } table[] = {
        {"Subject: harbour night\r\n", "SUBJECT", "HARBOUR N", true},
        {"Subject: harbour night\r\n", "SUBJECT", "harbour  n", false},
        {"Subject: harbour night\r\n", "SUBJECT", "harbour night ", false},
        {"Subject: night\r\n", "SUBJECT", "nights", false},
        {"Subject: night\r\n", "SUBJECT", "", true},
        {"Subject:\r\n", "SUBJECT", "", true},
        {"Subject:\r\n", "SUBJECT", "x", false},
        {"From: a@b\r\n", "SUBJECT", "", false},
        {"", "SUBJECT", "", false},
        /* every field of that name, whatever stands between */
        {"Subject: one\r\nFrom: a@b\r\nsubject: two\r\n", "Subject", "two", true},
        {"Subject: one\r\nFrom: a@b\r\nSUBJECT : two\r\n", "Subject", "one", true},
        {"Subject: one\r\nX-Subject: two\r\n", "Subject", "two", false},
        {"Subject: one\r\nSubject-X: two\r\n", "Subject", "two", false},
        {"Subject: one\r\nSubject: two\r\n", "Subject", "onetwo", false},
        /* folded: the line end goes, the blank stays (RFC 5322 2.2.3) */
        {"Subject: a\r\n b\r\n", "SUBJECT", "a b", true},
        {"Subject: a\r\n\tb\r\n", "SUBJECT", "a\tb", true},
        {"Subject:\r\n ab\r\n", "SUBJECT", "ab", true},
        {"Subject: a\r\n  b\r\nTo: c\r\n", "SUBJECT", "a  b", true},
        {"Subject: a\r\nX-Y: z\r\n b\r\n", "SUBJECT", "b", false},
        /* bytes that make it no plain line */
        {"Subject: a\rb\r\n", "SUBJECT", "a b", true},
        {"Subject: a\x01"
         "b\r\n",
         "SUBJECT",
         "a\x01"
         "B",
         true},
        {"Subject: stra\xc3\x9f\x65\r\n", "SUBJECT", "STRA\xc3\x9f\x45", true},
        {"Subject: stra\xc3\x9f\x65\r\n", "SUBJECT", "strasse", false}, /* title case by character (RFC 5051 2) */
        {"Subject: strasse\r\n", "SUBJECT", "stra\xc3\x9f\x65", false},
        {"Subject: stra\xdf\x65\r\n", "SUBJECT", "stra\xc3\x9f\x65", true}, /* windows-1252 */
        {"Subject: \xc4\xb0stanbul\r\n", "SUBJECT", "i\xcc\x87stanbul", true},
        {"Subject: istanbul\r\n", "SUBJECT", "\xc4\xb0stanbul", false},
        {"Subject: GRU\xcc\x88N\r\n", "SUBJECT", "gr\xc3\xbcn", true},
        {"Subject: kelvin\r\n", "SUBJECT", "\xe2\x84\xaa\x65lvin", true}, /* KELVIN SIGN decomposes to K */
        {"Subject: fish\r\n", "SUBJECT", "\xef\xac\x81sh", false},        /* fi, but in lower case: decomposed last */
        /* encoded words (RFC 2047) */
        {"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n", "SUBJECT", "GR\xc3\x9c\xc3\x9f\x65", true},
        {"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n", "SUBJECT", "utf-8", false},
        {"Subject: a =?us-ascii?q?b?= c\r\n", "SUBJECT", "A B C", true},
        {"Subject: =?us-ascii?q?ha?= =?us-ascii?q?rbour?=\r\n", "SUBJECT", "harbour", true},
        {"Subject: =?us-ascii?q?ha?=\r\n =?us-ascii?q?rbour?=\r\n", "SUBJECT", "harbour", true},
        {"Subject: =?utf-8?b?4oI=?= =?utf-8?b?rA==?=\r\n", "SUBJECT", "\xe2\x82\xac", true},
        {"Subject: =?us-ascii?\r\n q?ab?=\r\n", "SUBJECT", "?= =?", false},
        {"Subject: 1=?2\r\n", "SUBJECT", "1=?2", true},
        {"Subject: 1=2?\r\n", "SUBJECT", "=2?", true},
        /* the others that are kept, and one that is not */
        {"From: Al <a@b>\r\n", "FROM", "al <A", true},
        {"To: x@y,\r\n z@y\r\n", "TO", "x@y, z", true},
        {"Cc: x\r\n", "CC", "x", true},
        {"Bcc: x\r\n", "BCC", "x", true},
        {"Message-ID: <1@x>\r\n", "message-id", "<1@X>", true},
        {"Subject: a:b\r\nno field\r\n", "SUBJECT", "a:b", true},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char message[512];

        (void)snprintf(message, sizeof(message), "%s\r\nSubject: of the body\r\n", table[i].header);
        check(message, table[i].field, table[i].text, table[i].expected);
        (void)snprintf(message, sizeof(message), "X-First: 1\r\n folded\r\n%sX-Last: 1\r\n\r\nbody", table[i].header);
        check(message, table[i].field, table[i].text, table[i].expected);
    }
}

/* The Date: of the SENT keys comes from there, too. */
static void test_sent(void **state)
{
    static const char message[] = "Subject: x\r\nDate: Mon, 7 Feb 1994 21:52:25 -0800\r\n\r\nbody";
    struct search_key key = {.kind = SEARCH_SENTON, .day = 8803};
    struct place p;

    set_up(&p);
    store_deliver("INBOX", message);
    open_box(&p);
    assert_true(is_found(&p, key));
    store_cut(1);
    assert_true(is_found(&p, key));
    key.day++;
    assert_false(is_found(&p, key));
    tear_down(&p);
}

/* A message that is gone matches nothing, not even what it does not contain, although its fields are kept. */
static void test_gone(void **state)
{
    struct search_key absent = in_field("SUBJECT", "absent");
    struct search_key not = {.kind = SEARCH_NOT, .child = &absent};
    struct place p;

    set_up(&p);
    store_deliver("INBOX", "Subject: here\r\n\r\nbody");
    open_box(&p);
    assert_true(is_found(&p, not ));
    fold_search_free(absent.header_search);
    absent.header_search = NULL;
    store_expunge("INBOX", 1);
    assert_false(is_found(&p, in_field("SUBJECT", "here")));
    assert_false(is_found(&p, not ));
    assert_null(absent.header_search);
    tear_down(&p);
}

/* What another version has kept, or nobody, is no answer. */
static void test_odd_cache(void **state)
{
    static const struct str odd[] = {
        {"", 0}, {"\1\0\0", 3}, {"\2\0\0\0Subject: wrong\r\n", 20}, {"Subject: wrong\r\n", 16}};
    struct place p;

    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        set_up(&p);
        store_deliver("INBOX", "Subject: here\r\n\r\nbody");
        open_box(&p);
        assert_int_equal(mbox_cache_put(p.imap.box, 1, MBOX_CACHE_HEADERS, odd[i]), 0);
        assert_false(is_found(&p, in_field("SUBJECT", "wrong")));
        assert_true(is_found(&p, in_field("SUBJECT", "here")));
        tear_down(&p);
    }
}

/* Too many bytes to be kept: the message is read each time, and found all the same. */
static void test_large(void **state)
{
    _cleanup_buf_ struct buf message = BUF_INIT(LIMIT_HEADER);
    struct str cached;
    struct place p;

    assert_int_equal(buf_add(&message, "To: first", 9), 0);
    while (message.len < 40000)
        assert_int_equal(buf_add(&message, ",\r\n another@example.org", 23), 0);
    assert_int_equal(buf_add(&message, ", last\r\n\r\n", 10), 0);
    set_up(&p);
    store_deliver("INBOX", buf_cstr(&message));
    open_box(&p);
    for (int round = 0; round < 2; round++) {
        assert_true(is_found(&p, in_field("TO", "FIRST, another")));
        assert_true(is_found(&p, in_field("TO", "org, last")));
        assert_false(is_found(&p, in_field("TO", "missing")));
    }
    assert_int_equal(mbox_cache_get(p.imap.box, 1, MBOX_CACHE_HEADERS, &cached), -ENOENT);
    tear_down(&p);
}

static uint32_t chance(uint64_t *seed, uint32_t below)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % below;
}

/* A few pieces of text, most of them plain. */
static void make_up(uint64_t *seed, unsigned most, struct buf *out)
{
    static const char *const pieces[] = {"a",
                                         "B",
                                         "ab",
                                         " ",
                                         "Ab",
                                         "b ",
                                         "aB",
                                         "=",
                                         "?",
                                         "a",
                                         "\r\n ",
                                         "\r\n\t",
                                         "\t",
                                         "\r",
                                         "\x01",
                                         "\xc3\x9f",
                                         "\xc3\xa4",
                                         "\xe4",
                                         "a\xcc\x88",
                                         "\xc4\xb0",
                                         "=?q?q?a?=",
                                         "=?q?q?a",
                                         "?=",
                                         "=?q?b?YUI=?=",
                                         " =?utf-8?q?=C3=A4?="};
    bool is_plain = chance(seed, 2) == 0;

    for (uint32_t n = chance(seed, most); n > 0; n--)
        assert_int_equal(buf_add_str(out, str_from(pieces[chance(seed, is_plain ? 10 : 25)])), 0);
}

/* Every field decoded, folded and looked through one byte after the other. */
static bool is_in_header(struct str header, struct str field, struct str text)
{
    struct header_iter i = header_iterate(header);
    struct header_field f;
    bool is_in = false;

    while (!is_in && header_next(&i, &f)) {
        _cleanup_buf_ struct buf decoded = BUF_INIT(LIMIT_HEADER), folded = BUF_INIT(LIMIT_HEADER);
        _cleanup_buf_ struct buf wanted = BUF_INIT(LIMIT_HEADER);

        if (!str_ieq(f.name, field))
            continue;
        assert_int_equal(rfc2047_decode(f.body, &decoded), 0);
        assert_int_equal(fold_text(buf_str(&decoded), &folded), 0);
        assert_int_equal(fold_text(text, &wanted), 0);
        for (size_t at = 0; at + wanted.len <= folded.len && !is_in; at++)
            is_in = str_eq(str_sub(buf_str(&folded), at, wanted.len), buf_str(&wanted));
    }
    return is_in;
}

static void test_made_up(void **state)
{
    static const char *const names[] = {"Subject", "From", "To", "X-Other", "Date", "subject"};
    uint64_t seed = 1;
    unsigned hits = 0;

    for (unsigned round = 0; round < ROUNDS; round++) {
        _cleanup_buf_ struct buf header = BUF_INIT(LIMIT_HEADER), raw = BUF_INIT(LIMIT_HEADER);
        _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_HEADER);
        bool expected;

        for (uint32_t n = chance(&seed, 5); n > 0; n--) {
            assert_int_equal(buf_printf(&header, "%s:%s", names[chance(&seed, 6)], chance(&seed, 4) ? " " : ""), 0);
            make_up(&seed, 12, &header);
            assert_int_equal(buf_add(&header, "\r\n", 2), 0);
        }
        make_up(&seed, 3, &raw);
        assert_int_equal(rfc2047_decode(buf_str(&raw), &text), 0);
        expected = is_in_header(buf_str(&header), STR("subject"), buf_str(&text));
        hits += expected;
        assert_int_equal(buf_add(&header, "\r\nbody\r\n", 8), 0);
        check(buf_cstr(&header), "SUBJECT", buf_cstr(&text), expected);
    }
    assert_in_range(hits, ROUNDS / 10, ROUNDS * 9 / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),    cmocka_unit_test(test_sent),  cmocka_unit_test(test_gone),
        cmocka_unit_test(test_odd_cache), cmocka_unit_test(test_large), cmocka_unit_test(test_made_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
