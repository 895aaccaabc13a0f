/*
 * The scanner with a thread that helps it: what is found does not depend on who finds it, and when.
 */
#include "tests/unit/mbox_util.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "shared/base/macros.h"
#include "shared/mbox/hash.h"
#include "shared/mbox/scan.h"
#include "shared/mbox/scan_part.h"

#define FROM      "From a@example.org Sat Nov 14 12:00:00 2026\n"
#define CRLF_FROM "From a@example.org Sat Nov 14 12:00:00 2026\r\n"

static const uint64_t key[2];

#define LARGE (72u << 20)

/* All that was found, as one number, and in what order. */
struct sum {
    uint64_t value;
    size_t count;
    uint64_t next;   /* where the next message is due */
    uint64_t change; /* before this message is visited, the file is cut in the middle of it; 0: never */
    int fd;
};

static int sum_up(void *context, const struct scan_message *m)
{
    struct sum *sum = context;
    struct scan_message plain = *m;

    assert_int_equal(m->offset, sum->next);
    sum->next = m->offset + m->length;
    sum->count++;
    plain.keywords = plain.base_keywords = STR_NULL;
    sum->value = sum->value * 31 + mhash64(m->keywords.ptr, m->keywords.len);
    sum->value = sum->value * 31 + m->offset + m->length * 3 + m->size * 5 + m->header * 7 + m->block * 11;
    sum->value = sum->value * 31 + mhash64(plain.hash, sizeof(plain.hash)) + m->flags + m->separator * 13u + m->uid;
    if (sum->change != 0 && m->offset >= sum->change) {
        assert_int_equal(ftruncate(sum->fd, (off_t)(m->offset + 10)), 0);
        sum->change = 0;
    }
    return 0;
}

/* One message, as pseudo-random bits have it; returns its length. */
static size_t make_message(char *to, uint64_t bits)
{
    static const char *const lines[] = {"Frost\n",     ">From x\n",    "\n",
                                        FROM,          "\r\n",         "a line of text\r\n",
                                        "From here\n", "F\n\nFrom \n", "\n" FROM "Subject: one more\nX-UID: 9\n\n"};
    size_t len = sizeof(FROM) - 1;

    if (bits & 1)
        len += (size_t)snprintf(to + len, 300, "X-Keywords: k%u other\nStatus: RO\n", (unsigned)(bits >> 8) % 7);
    if (bits % 97 == 5) { /* more keywords than the helper takes */
        memcpy(to + len, "X-Keywords: ", 12);
        memset(to + len + 12, 'k', 5000);
        to[len + 5012] = '\n';
        len += 5013;
    }
    to[len++] = '\n';
    for (unsigned i = 0; i < (bits >> 16) % 40; i++) {
        const char *line = lines[(bits >> (i % 32)) % ARRAY_SIZE(lines)];

        memcpy(to + len, line, strlen(line));
        len += strlen(line);
    }
    if (bits % 31 == 3) {
        memset(to + len, 'x', 40000);
        len += 40000;
    }
    to[len++] = '\n';
    to[len++] = '\n';
    return len;
}

/* Messages of all kinds, thousands of tiny ones, and one that is longer than what a processor takes at once. */
static int large_file(void)
{
    int fd = memfd_create("mbox", MFD_CLOEXEC);
    uint64_t bits = 88172645463325252u;
    char *text = malloc(LARGE + (1u << 20));
    size_t len = 0;

    assert_non_null(text);
    while (len < LARGE) {
        memcpy(text + len, FROM, sizeof(FROM) - 1);
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        if (len > LARGE / 3 && len < LARGE / 3 + (1u << 20)) {
            memset(text + len + sizeof(FROM) - 1, '\n', 1);
            memset(text + len + sizeof(FROM), 'z', 20u << 20);
            len += sizeof(FROM) + (20u << 20);
            memcpy(text + len, "\n\n", 2);
            len += 2;
        } else if (len > LARGE / 2 + (20u << 20)) {
            memcpy(text + len + sizeof(FROM) - 1, "A: b\n\nc\n\n", 10);
            len += sizeof(FROM) + 9;
        } else {
            len += make_message(text + len, bits);
        }
    }
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), len);
    free(text);
    return fd;
}

static void scan_with(int fd, bool is_alone, struct sum *sum, struct scan_result *result)
{
    cpu_set_t all, one;

    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    CPU_ZERO(&one);
    for (int i = 0; CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    if (is_alone)
        assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(scan_file(fd, 0, key, sum_up, sum, result), 0);
    assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

/* What is found does not depend on how many processors look for it. */
static void test_processors(void **state)
{
    struct sum alone = {0}, together = {0};
    struct scan_result results[2];
    int fd = large_file();

    (void)state;
    scan_with(fd, true, &alone, &results[0]);
    scan_with(fd, false, &together, &results[1]);
    assert_true(alone.count > 10000);
    assert_int_equal(alone.count, together.count);
    assert_int_equal(alone.value, together.value);
    assert_int_equal(results[0].end, results[1].end);
    assert_int_equal(alone.next, results[0].end);
    close(fd);
}

#define EQUAL_LENGTH 4096
#define EQUAL_COUNT  ((40u << 20) / EQUAL_LENGTH)

/* A message may begin just where the helper does, in the middle of what separates it from the one before. */
static void test_where_the_helper_begins(void **state)
{
    struct sum alone = {0}, together = {0};
    struct scan_result results[2];
    int fd = memfd_create("mbox", MFD_CLOEXEC);
    char *text = malloc(EQUAL_LENGTH);

    (void)state;
    assert_true(fd >= 0 && text);
    memset(text, 'x', EQUAL_LENGTH);
    memcpy(text, CRLF_FROM, sizeof(CRLF_FROM) - 1);
    memcpy(text + sizeof(CRLF_FROM) - 1, "A: b\r\n\r\n", 8);
    memcpy(text + EQUAL_LENGTH - 4, "\r\n\r\n", 4);
    for (unsigned i = 0; i < EQUAL_COUNT; i++)
        assert_int_equal(write(fd, text, EQUAL_LENGTH), EQUAL_LENGTH);
    free(text);
    scan_with(fd, true, &alone, &results[0]);
    scan_with(fd, false, &together, &results[1]);
    assert_int_equal(alone.count, EQUAL_COUNT);
    assert_int_equal(together.count, EQUAL_COUNT);
    assert_int_equal(alone.value, together.value);
    close(fd);
}

/* From each place the next message is found, and nothing else. */
static void test_search(void **state)
{
    static const char text[] =
        CRLF_FROM "A: b\r\n\r\nbody\r\n\r\n" FROM "\n\n" FROM "A: b\n\nFrom here\n\n\r\n" CRLF_FROM "\r\nFrom \r\n\r\n";
    int fd = memfd_create("mbox", MFD_CLOEXEC);
    struct sum sum = {0};
    struct scan_result result;
    uint64_t starts[8];
    size_t count = 0;

    (void)state;
    assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
    assert_int_equal(scan_file(fd, 0, key, sum_up, &sum, &result), 0);
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        if (strncmp(text + i, FROM, 20) == 0)
            starts[count++] = i;
    assert_int_equal(count, sum.count);
    for (uint64_t at = SCAN_HISTORY; at < sizeof(text); at++) {
        struct scanner s;
        bool is_found;
        size_t next = 0;

        assert_int_equal(scan_begin(&s, fd, key), 0);
        scan_at(&s, at);
        assert_int_equal(scan_search(&s, &is_found), 0);
        while (next < count && starts[next] < at)
            next++;
        assert_int_equal(is_found, next < count);
        if (is_found)
            assert_int_equal(scan_offset(&s), starts[next]);
        scan_finish(&s);
    }
    close(fd);
}

/* Who looks at one message only does not have the rest scanned. */
static int stop_at_once(void *context, const struct scan_message *m)
{
    (void)m;
    ++*(int *)context;
    return -ECANCELED;
}

static void test_one_message(void **state)
{
    struct scan_result result;
    struct rusage before, after;
    int fd = large_file(), count = 0;

    (void)state;
    assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(scan_file(fd, 0, key, stop_at_once, &count, &result), -ECANCELED);
    assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
    assert_int_equal(count, 100);
    assert_true(after.ru_nvcsw - before.ru_nvcsw < 50); /* no thread was waited for */
    close(fd);
}

/* Somebody cuts the file off while it is scanned, without any lock: the scan comes to an end, at a place that was. */
static void test_cut_meanwhile(void **state)
{
    (void)state;
    for (uint64_t at = 1u << 20; at < LARGE; at += 9u << 20) {
        struct scan_result result;
        struct sum sum = {.change = at, .fd = large_file()};

        scan_with(sum.fd, false, &sum, &result);
        assert_int_equal(sum.next, result.end);
        assert_true(result.end >= at);
        close(sum.fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_processors),    cmocka_unit_test(test_where_the_helper_begins),
        cmocka_unit_test(test_search),        cmocka_unit_test(test_one_message),
        cmocka_unit_test(test_cut_meanwhile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
