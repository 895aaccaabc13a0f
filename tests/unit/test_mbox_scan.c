/*
 * The scanner on every kind of mbox file, and the From_ lines that it takes for such.
 */
#include "tests/unit/mbox_util.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "shared/base/macros.h"
#include "shared/mbox/fromline.h"
#include "shared/mbox/scan.h"

#define FROM "From a@example.org Sat Nov 14 12:00:00 2026\n"

static const uint64_t key[2];

struct found {
    struct scan_message messages[16];
    size_t count;
};

static int note(void *context, const struct scan_message *m)
{
    struct found *f = context;

    assert_true(f->count < ARRAY_SIZE(f->messages));
    f->messages[f->count++] = *m;
    return 0;
}

static int file_of(const char *text, size_t len)
{
    int fd = memfd_create("mbox", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, text, len, 0), len);
    return fd;
}

static int scan_bytes(const char *text, size_t len, struct found *f)
{
    struct scan_result result;
    int fd = file_of(text, len);
    int r;

    f->count = 0;
    r = scan_file(fd, 0, key, note, f, &result);
    close(fd);
    return r;
}

static void scan_text(const char *text, struct found *f)
{
    uint64_t at;

    assert_int_equal(scan_bytes(text, strlen(text), f), 0);
    at = f->count > 0 ? f->messages[0].offset : 0;
    for (size_t i = 0; i < f->count; i++) { /* one behind the other, to the end */
        assert_int_equal(f->messages[i].offset, at);
        at += f->messages[i].length;
    }
    if (f->count > 0)
        assert_int_equal(at, strlen(text));
}

/* ---- From_ lines ---- */

static void test_fromlines(void **state)
{
    static const struct {
        const char *line;
        int64_t date;
        int zone;
    } good[] = {
        {"From a@example.org Sat Nov 14 12:00:00 2026", 1794657600, 0},
        {"From a@example.org  Sat Nov  7 12:00:00 2026", 1794052800, 0},
        {"From Sat Nov 14 12:00:00 2026", 1794657600, 0},
        {"From - Sat Nov 14 12:00:00 2026", 1794657600, 0},          /* Mozilla */
        {"From MAILER-DAEMON Sat Nov 14 12:00 2026", 1794657600, 0}, /* no seconds */
        {"From a Sat Nov 14 12:00:00 CET 2026", 1794654000, 60},     /* zone before the year */
        {"From a Sat Nov 14 12:00:00 2026 +0530", 1794637800, 330},  /* and behind it */
        {"From a Sat Nov 14 12:00:00 2026 EST", 1794675600, -300},
        {"From a Sat Nov 14 12:00:00 26", 1794657600, 0}, /* two digits */
        {"From a Sat Nov 14 12:00:00 2026 remote from host", 1794657600, 0},
        {"From a Sat, 14 Nov 2026 12:00:00 +0100", 1794654000, 60}, /* RFC 5322's form */
        {"From \"a b\"@example.org Sat Nov 14 12:00:00 2026", 1794657600, 0},
        {"From my Sat friend Sat Nov 14 12:00:00 2026", 1794657600, 0}, /* a day's name in the sender */
        {"From a sat nov 14 12:00:00 2026", 1794657600, 0},
        {"From a Thu Jan  1 00:00:00 1970", 0, 0},
        {"From a Sat Nov 14 12:00:60 2026", 1794657660, 0}, /* a leap second */
    };
    static const char *const bad[] = {
        "From",
        "From ",
        "From a@example.org",
        "From here to there",
        "from a Sat Nov 14 12:00:00 2026",
        ">From a Sat Nov 14 12:00:00 2026",
        "From: a Sat Nov 14 12:00:00 2026",
        "From\ta Sat Nov 14 12:00:00 2026",
        "From a Nov 14 12:00:00 2026",
        "From a Sat Nov 14 2026",
        "From a Sat Nov 32 12:00:00 2026",
        "From a Sat Nov 0 12:00:00 2026",
        "From a Sat Nvo 14 12:00:00 2026",
        "From a Sat Nov 14 24:00:00 2026",
        "From a Sat Nov 14 12:60:00 2026",
        "From a Sat Nov 14 12:00:00",
        "From a Sat Nov 14 12:00:00 20266",
        "From a Sat Nov 14 12:00:00 2026 and more words",
        "From aSat Nov 14 12:00:00 2026",
        "From a Sat Nov 14 12:00:00 2026.",
    };
    char longest[FROMLINE_MAX + 64];
    struct fromline got;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        if (!fromline_parse(str_from(good[i].line), &got))
            fail_msg("refused: %s", good[i].line);
        if (got.date != good[i].date || got.offset != good[i].zone)
            fail_msg("%s: %lld %d", good[i].line, (long long)got.date, got.offset);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (fromline_parse(str_from(bad[i]), &got))
            fail_msg("taken: %s", bad[i]);
    memset(longest, 'x', sizeof(longest));
    memcpy(longest, "From ", 5);
    memcpy(longest + FROMLINE_MAX - 25, " Sat Nov 14 12:00:00 2026", 25);
    assert_true(fromline_parse((struct str){longest, FROMLINE_MAX}, &got));
    memcpy(longest + FROMLINE_MAX - 24, " Sat Nov 14 12:00:00 2026", 25);
    assert_false(fromline_parse((struct str){longest, FROMLINE_MAX + 1}, &got));
}

/* ---- kinds of files ---- */

static void test_kinds(void **state)
{
    static const struct {
        const char *text;
        size_t count;
        uint64_t sizes[3];
    } kinds[] = {
        {"", 0, {0}},
        {FROM "Subject: a\n\nb\n\n", 1, {17}},
        {FROM "Subject: a\n\nb\n\n" FROM "Subject: c\n\nd\n\n", 2, {17, 17}},
        /* mboxo and mboxrd, by somebody else: as it is stored */
        {FROM "S: a\n\n>From b\n>>From c\n\n" FROM "S: c\n\nd\n\n", 2, {6 + 2 + 9 + 10 - 1 + 1, 11}},
        /* a From_ line without an empty line in front of it, or no From_ line behind one, is text */
        {FROM "S: a\n\nb\n" FROM "c\n\n"
              "From now on\n\n",
         1,
         {6 + 2 + 3 + sizeof(FROM) + 3 + 2 + 13}},
        /* mboxcl: the length is not believed, whether it is right, too long or nonsense */
        {FROM "Content-Length: 2\nS: a\n\nb\n\n" FROM "S: c\n\nd\n\n", 2, {11, 11}},
        {FROM "Content-Length: 9999\nS: a\n\nb\n\n" FROM "S: c\n\nd\n\n", 2, {11, 11}},
        {FROM "Content-Length: -1\nLines: x\nS: a\n\nb\n\n" FROM "S: c\n\nd\n\n", 2, {11, 11}},
        /* CRLF */
        {"From a Sat Nov 14 12:00:00 2026\r\nS: a\r\n\r\nb\r\n\r\nFrom a Sat Nov 14 12:00:00 2026\r\nS: "
         "c\r\n\r\nd\r\n\r\n",
         2,
         {11, 11}},
        /* empty lines in front, more than one between, none at the end, no last line end, nothing but a From_ line */
        {"\n\n" FROM "S: a\n\nb\n\n\n\n" FROM "S: c\n\nd\n", 2, {11 + 4, 11}},
        {FROM "S: a\n\nb", 1, {11}},
        {FROM "S: a", 1, {6}},
        {FROM, 1, {0}},
        {FROM FROM "\n", 1, {sizeof(FROM)}},
        {FROM "\n" FROM "\n" FROM "S: a\n\n", 3, {0, 0, 6}},
    };
    struct found f;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        scan_text(kinds[i].text, &f);
        if (f.count != kinds[i].count)
            fail_msg("kind %zu: %zu messages", i, f.count);
        for (size_t k = 0; k < f.count; k++)
            if (f.messages[k].size != kinds[i].sizes[k])
                fail_msg("kind %zu, message %zu: size %llu", i, k, (unsigned long long)f.messages[k].size);
    }
}

static void test_no_mbox(void **state)
{
    static const char *const texts[] = {"x",
                                        "Subject: a\n\nb\n\n" FROM "S: c\n\n",
                                        "From here\n\n" FROM "\n",
                                        "\nx\n\n" FROM "\n",
                                        "\x1f\x8b\x08",
                                        "\n \n" FROM "\n"};
    struct found f;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (scan_bytes(texts[i], strlen(texts[i]), &f) != -EBADMSG)
            fail_msg("%zu is taken", i);
    assert_int_equal(scan_bytes("\0\0\0\0", 4, &f), -EBADMSG);
}

/* A From_ line at every place around the edge of the buffer: none is overlooked, none is made up. */
static void test_buffer_edges(void **state)
{
    static const char from[] = "\n\n" FROM "Subject: second\n\nb\n\n", no_from[] = "\nx\n" FROM "no message\n\n\n";
    size_t size = SCAN_BUFFER + 4096;
    char *text = malloc(size);
    struct found f;

    (void)state;
    for (int edge = 1; edge <= 2; edge++) {
        for (size_t back = 0; back < 120; back++) {
            size_t at = SCAN_BUFFER / (edge == 1 ? 1 : 2) - back;

            for (int is_one = 0; is_one < 2; is_one++) {
                memset(text, 'x', size);
                memcpy(text, FROM "Subject: a\n\n", sizeof(FROM) + 11);
                for (size_t i = 200; i < size; i += 77)
                    text[i] = '\n';
                text[size - 1] = '\n';
                memset(text + at - 2, 'x', 2);
                memcpy(text + at, is_one ? from : no_from, is_one ? sizeof(from) - 1 : sizeof(no_from) - 1);
                assert_int_equal(scan_bytes(text, size, &f), 0);
                if (f.count != (is_one ? 2u : 1u))
                    fail_msg("at %zu: %zu messages", at, f.count);
                if (is_one)
                    assert_int_equal(f.messages[1].offset, at + 2);
            }
        }
    }
    free(text);
}

/* Lines of any length take no more memory, in headers and in bodies. */
static void test_long_lines(void **state)
{
    size_t most = 48u << 20;
    char *piece = malloc(1u << 20);
    struct rusage before, after;
    struct scan_result result;
    struct found f = {0};
    int fd = file_of(FROM "Subject: ", sizeof(FROM) - 1 + 9);
    off_t at = sizeof(FROM) - 1 + 9;

    (void)state;
    memset(piece, 'y', 1u << 20);
    for (size_t n = 0; n < most; n += 1u << 20, at += 1u << 20) {
        if (n == most / 2) {
            assert_int_equal(pwrite(fd, "\n\n", 2, at), 2);
            at += 2;
        }
        assert_int_equal(pwrite(fd, piece, 1u << 20, at), 1u << 20);
    }
    free(piece);
    assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
    assert_int_equal(scan_file(fd, 0, key, note, &f, &result), 0);
    assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
    assert_int_equal(f.count, 1);
    assert_int_equal(f.messages[0].size, 9 + most + 6);
    assert_int_equal(f.messages[0].length, at);
    assert_true(after.ru_maxrss - before.ru_maxrss < 4096); /* KB */
    close(fd);
}

/* A message behind more than 4 GB of another one. */
static void test_large(void **state)
{
    static const char last[] = "\n\n" FROM "Subject: last\n\nb\n\n";
    const uint64_t place = (4ull << 30) + 4321;
    struct scan_result result;
    struct found f = {0};
    int fd = file_of(FROM "Subject: a\n\n", sizeof(FROM) + 11);

    (void)state;
    assert_int_equal(pwrite(fd, last, sizeof(last) - 1, (off_t)place), sizeof(last) - 1);
    assert_int_equal(scan_file(fd, place + 2, key, note, &f, &result), 0);
    assert_int_equal(f.count, 1);
    assert_int_equal(f.messages[0].offset, place + 2);
    assert_int_equal(f.messages[0].size, 15 + 2 + 3);
    assert_int_equal(result.end, place + sizeof(last) - 1);
    close(fd);
}

/* A message looked at alone is what it is among others, whatever length is expected of it. */
static void check_alone(int fd, const struct scan_message *m)
{
    const uint64_t expected[] = {m->length, 0, 1, m->length / 2, m->length + 1, m->length * 2, 1u << 20, UINT64_MAX};

    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        struct found alone = {0};

        assert_int_equal(scan_message(fd, m->offset, expected[i], key, note, &alone), 0);
        assert_int_equal(alone.count, 1);
        assert_int_equal(alone.messages[0].offset, m->offset);
        assert_int_equal(alone.messages[0].length, m->length);
        assert_int_equal(alone.messages[0].size, m->size);
        assert_int_equal(alone.messages[0].header, m->header);
        assert_int_equal(alone.messages[0].separator, m->separator);
        assert_int_equal(alone.messages[0].lacks_newline, m->lacks_newline);
        assert_memory_equal(alone.messages[0].hash, m->hash, sizeof(m->hash));
    }
}

static void test_alone(void **state)
{
    static const size_t bodies[] = {0, 1, 500, 600, 1023, 1024, 30700, 31600, 32600, 32768, 40000, 300000, 7};
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
    struct scan_result result;
    struct found all = {0};
    int fd;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
        const char *eol = i % 3 == 2 ? "\r\n" : "\n";

        assert_int_equal(buf_printf(&text, "%sSubject: %zu%s%s", FROM, i, eol, eol), 0);
        for (size_t n = 0; n < bodies[i]; n++)
            assert_int_equal(buf_add_byte(&text, n % 71 == 70 ? '\n' : (char)('a' + n % 26)), 0);
        if (i + 1 < ARRAY_SIZE(bodies))
            assert_int_equal(buf_printf(&text, "%s%s", eol, eol), 0);
    }
    fd = file_of(text.data, text.len);
    assert_int_equal(scan_file(fd, 0, key, note, &all, &result), 0);
    assert_int_equal(all.count, ARRAY_SIZE(bodies));
    for (size_t i = 0; i < all.count; i++)
        check_alone(fd, &all.messages[i]);
    assert_int_equal(scan_message(fd, 3, 100, key, note, &all), -EBADMSG);
    assert_int_equal(scan_message(fd, text.len, 100, key, note, &all), 0); /* nothing there */
    assert_int_equal(all.count, ARRAY_SIZE(bodies));
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fromlines),    cmocka_unit_test(test_kinds),         cmocka_unit_test(test_no_mbox),
        cmocka_unit_test(test_buffer_edges), cmocka_unit_test(test_long_lines),    cmocka_unit_test(test_large),
        cmocka_unit_test(test_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
