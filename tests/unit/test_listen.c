/*
 * The counting of `listen`: what is one source, and how children come and go.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/un.h>

#include "handlers/listen/children.h"

static struct source v4(const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET};

    assert_int_equal(inet_pton(AF_INET, text, &in.sin_addr), 1);
    return source_of((struct sockaddr *)&in, sizeof(in));
}

static struct source v6(const char *text)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

    assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    return source_of((struct sockaddr *)&in6, sizeof(in6));
}

static bool is_same(struct source a, struct source b)
{
    return a.len == b.len && memcmp(a.bytes, b.bytes, a.len) == 0;
}

static void test_source(void **state)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    assert_true(is_same(v4("192.0.2.1"), v4("192.0.2.1")));
    assert_false(is_same(v4("192.0.2.1"), v4("192.0.2.2")));
    assert_true(is_same(v6("::ffff:192.0.2.1"), v4("192.0.2.1")));
    assert_true(is_same(v6("2001:db8:1:2::1"), v6("2001:db8:1:2:ffff::9")));
    assert_false(is_same(v6("2001:db8:1:2::1"), v6("2001:db8:1:3::1")));
    assert_int_equal(source_of((struct sockaddr *)&un, sizeof(un)).len, 0);
    assert_int_equal(source_of((struct sockaddr *)&un, sizeof(sa_family_t)).len, 0);
}

static void test_counting(void **state)
{
    struct children c;

    assert_int_equal(children_init(&c, 3), 0);
    assert_int_equal(children_add(&c, 10, v4("192.0.2.1")), 0);
    assert_int_equal(children_add(&c, 11, v4("192.0.2.2")), 0);
    assert_int_equal(children_add(&c, 12, v4("192.0.2.1")), 0);
    assert_int_equal(children_add(&c, 13, v4("192.0.2.1")), -ENOBUFS);
    assert_int_equal(children_from(&c, v4("192.0.2.1")), 2);
    assert_int_equal(children_remove(&c, 99), -ENOENT);
    assert_int_equal(children_remove(&c, 10), 0);
    assert_int_equal(children_from(&c, v4("192.0.2.1")), 1);
    assert_int_equal(children_from(&c, v4("192.0.2.2")), 1);
    assert_int_equal(children_from(&c, (struct source){0}), 0);
    assert_int_equal(c.count, 2);
    children_finish(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_source), cmocka_unit_test(test_counting)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
