/* Unit tests of shared/mime/addr: the short way for usual addresses, and addresses of many words. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "shared/base/buf.h"
#include "shared/base/limits.h"
#include "shared/mime/addr.h"
#include "shared/mime/addr_scan.h"

#define MAX (4u << 20)

static void assert_same(struct str a, struct str b, struct str body)
{
    if (!a.ptr != !b.ptr || !str_eq(a, b))
        fail_msg("%.*s: %.*s, %.*s", STR_ARG(body), STR_ARG(a), STR_ARG(b));
}

static void assert_same_addr(const struct addr *a, const struct addr *b, struct str body)
{
    assert_same(a->name, b->name, body);
    assert_same(a->adl, b->adl, body);
    assert_same(a->mailbox, b->mailbox, body);
    assert_same(a->host, b->host, body);
}

/* A random body of these pieces; each is an exact block, so that a read over its end is seen by the sanitizers. */
static char *random_body(uint32_t *random, struct str *ret)
{
    static const struct str pieces[] = {
        {"a", 1},       {"Jo", 2},    {"Q.", 2},  {" ", 1},  {"<", 1},     {"@", 1},  {">", 1},
        {"a@b.c", 5},   {"<a@b>", 5}, {"x.y", 3}, {"\"", 1}, {"\\", 1},    {"  ", 2}, {"\t", 1},
        {"[", 1},       {"]", 1},     {"(", 1},   {")", 1},  {"\r\n ", 3}, {"\0", 1}, {"\xc3", 1},
        {"\"J Q\"", 5}, {"=?q?", 4},  {":", 1},   {",", 1},  {";", 1},
    };
    _cleanup_buf_ struct buf body = BUF_INIT(MAX);
    char *exact;
    unsigned n;

    *random = *random * 1664525 + 1013904223;
    n = (*random >> 16) % 10;
    for (unsigned i = 0; i < n; i++) {
        *random = *random * 1664525 + 1013904223;
        assert_int_equal(buf_add_str(&body, pieces[(*random >> 16) % ARRAY_SIZE(pieces)]), 0);
    }
    exact = malloc(body.len + !body.len);
    assert_non_null(exact);
    memcpy(exact, buf_cstr(&body), body.len);
    *ret = (struct str){exact, body.len};
    return exact;
}

/* A semicolon behind an address outside of groups says nothing, but it is not the usual form: then tokens are read. */
static void the_short_way_is_the_same(void **state)
{
    unsigned usual = 0;
    uint32_t random = 1;

    for (unsigned round = 0; round < 200000; round++) {
        _cleanup_addr_list_ struct addr_list all, by_tokens, first;
        _cleanup_buf_ struct buf with_end = BUF_INIT(MAX);
        _cleanup_free_ char *exact = NULL;
        struct addr a;
        struct str body;

        addr_list_init(&all);
        addr_list_init(&by_tokens);
        addr_list_init(&first);
        exact = random_body(&random, &body);
        usual += addr_scan_usual(&(struct addr_scanner){.rest = body}, &a);
        assert_int_equal(buf_add_str(&with_end, body), 0);
        assert_int_equal(buf_add_byte(&with_end, ';'), 0);
        assert_int_equal(addr_parse(body, &all), 0);
        assert_int_equal(addr_parse(buf_str(&with_end), &by_tokens), 0);
        assert_int_equal(addr_parse_first(body, &first), 0);
        assert_int_equal(all.count, by_tokens.count);
        for (size_t i = 0; i < all.count; i++)
            assert_same_addr(&all.items[i], &by_tokens.items[i], body);
        assert_int_equal(first.count > 0, all.count > 0);
        if (first.count)
            assert_same_addr(&first.items[0], &all.items[0], body);
        assert_true(first.count < 2 || (first.count == 2 && addr_is_group_end(&first.items[1])));
    }
    assert_true(usual > 1000);
}

static void usual_forms(void **state)
{
    static const struct {
        const char *body;
        const char *rest; /* NULL: another form */
    } table[] = {
        {"a@b", ""},
        {" a.b@c.d , x", " x"},
        {"<a@b>,", ""},
        {"J. Q Public <a@b.c>", ""},
        {"J\xc3\xb6rg\t<a@b>\r\n", ""},
        {"\"Public, J.\" <a@b>,x", "x"},
        {"\"\" <a@b>", ""},
        {"a@b;", NULL},
        {"a@b (c)", NULL},
        {"\"J \\\" Q\" <a@b>", NULL},
        {"\"a\"@b", NULL},
        {"a b@c", NULL},
        {"a  b <c@d>", NULL},
        {"a@b@c", NULL},
        {"a@[1.2.3.4]", NULL},
        {"<@a:b@c>", NULL},
        {"<>", NULL},
        {"<a@b", NULL},
        {"a@", NULL},
        {"g: a@b", NULL},
        {"", NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct addr_scanner s = {.rest = str_from(table[i].body)};
        struct addr a;

        if (addr_scan_usual(&s, &a) != (table[i].rest != NULL))
            fail_msg("%s", table[i].body);
        if (!str_eq(s.rest, str_from(table[i].rest ? table[i].rest : table[i].body)))
            fail_msg("%s: %.*s", table[i].body, STR_ARG(s.rest));
    }
}

/* What is over the limit of tokens is dropped, on both ways; a name of some more than usual takes memory. */
static void addresses_of_many_words(void **state)
{
    static const char *const ends[] = {"<a@b>", "<a@b> (c)"};

    for (size_t e = 0; e < ARRAY_SIZE(ends); e++) {
        for (size_t words = 1; words<ADDR_TOKENS_MAX + 40; words += words> 70 && words < 1000 ? 900 : 1) {
            _cleanup_addr_list_ struct addr_list l;
            _cleanup_buf_ struct buf body = BUF_INIT(MAX);
            size_t kept = words < ADDR_TOKENS_MAX ? words : ADDR_TOKENS_MAX;

            addr_list_init(&l);
            for (size_t i = 0; i < words; i++)
                assert_int_equal(buf_add(&body, "w ", 2), 0);
            assert_int_equal(buf_add_str(&body, str_from(ends[e])), 0);
            assert_int_equal(addr_parse(buf_str(&body), &l), 0);
            assert_int_equal(l.count, 1);
            assert_int_equal(l.items[0].name.len, 2 * kept - 1);
            assert_true(str_eq(l.items[0].name, str_sub(buf_str(&body), 0, 2 * kept - 1)));
            assert_true(str_eq(l.items[0].host, STR("b")));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_short_way_is_the_same),
        cmocka_unit_test(usual_forms),
        cmocka_unit_test(addresses_of_many_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
