/*
 * shared/dns: names, answers as frames, and mail routes and TLSA records against a resolver that this test plays.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/dns/dane.h"
#include "shared/dns/hop.h"
#include "shared/dns/hosts.h"
#include "shared/io/frame_types.h"
#include "tests/unit/dns_rows.h"

static struct conf conf;

/* ---- names ---- */

static void names_of_hosts(void **state)
{
    static const char *const good[] = {"a", "a.b", "A-1.test", "_25._tcp.mail.test", "192.0.2.1", "xn--bcher-kva.test"};
    static const char *const bad[] = {"", ".", "a.", ".a", "a..b", "a b", "a/b", "b\xc3\xbc.test", "a'", "a\\046b"};
    char longest[300];

    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(dns_name_is_host(str_from(good[i])));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(dns_name_is_host(str_from(bad[i])));
    memset(longest, 'a', sizeof(longest));
    assert_true(dns_name_is_host((struct str){longest, 63}));
    assert_false(dns_name_is_host((struct str){longest, 64}));
    for (size_t i = 63; i < sizeof(longest); i += 64)
        longest[i] = '.';
    assert_true(dns_name_is_host((struct str){longest, 253}));
    assert_false(dns_name_is_host((struct str){longest, 254}));
}

static void names_in_reverse(void **state)
{
    _cleanup_buf_ struct buf b = BUF_INIT(200);
    uint8_t bytes[16];
    size_t len = 0;

    assert_int_equal(dns_address_parse(STR("192.0.2.130"), bytes, &len), 0);
    assert_int_equal(dns_name_reverse(bytes, len, STR("in-addr.arpa"), &b), 0);
    assert_string_equal(buf_cstr(&b), "130.2.0.192.in-addr.arpa");
    buf_clear(&b);
    assert_int_equal(dns_address_parse(STR("2001:db8::567:89ab"), bytes, &len), 0); /* RFC 3596 2.5 */
    assert_int_equal(dns_name_reverse(bytes, len, STR("ip6.arpa"), &b), 0);
    assert_string_equal(buf_cstr(&b), "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    assert_int_equal(dns_address_parse(STR("::ffff:192.0.2.1"), bytes, &len), 0);
    assert_int_equal(len, 4);
    assert_int_equal(dns_address_parse(STR("fe80::1%eth0"), bytes, &len), 0);
    assert_int_equal(len, 16);
    assert_int_equal(dns_address_parse(STR("192.0.2"), bytes, &len), -EINVAL);
    assert_int_equal(dns_address_parse(STR(""), bytes, &len), -EINVAL);
    assert_int_equal(dns_address_parse(STR("local"), bytes, &len), -EINVAL);
}

/* ---- answers as frames ---- */

struct forged {
    uint32_t status, is_secure, count;
    const char *canonical, *reason;
    uint32_t preference, usage;
    struct str data;
    bool has_tail;
};

static int decode_forged(enum dns_type type, const struct forged *x)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    _cleanup_(dns_answer_finish) struct dns_answer a = DNS_ANSWER_INIT;

    frame_begin(&f, FRAME_DNS_ANSWER);
    (void)frame_put_u32(&f, 1);
    (void)frame_put_u32(&f, x->status);
    (void)frame_put_u32(&f, x->is_secure);
    (void)frame_put_u32(&f, 60);
    (void)frame_put_str(&f, str_from(x->canonical));
    (void)frame_put_str(&f, str_from(x->reason));
    (void)frame_put_u32(&f, x->count);
    for (uint32_t i = 0; i < x->count && i < 200; i++) {
        (void)frame_put_u32(&f, x->preference);
        (void)frame_put_u32(&f, x->usage);
        (void)frame_put_u32(&f, 0);
        (void)frame_put_u32(&f, 0);
        (void)frame_put_str(&f, x->data);
    }
    if (x->has_tail)
        (void)frame_put_u32(&f, 0);
    return dns_answer_decode(&f, type, &a);
}

static void forged_answers_are_refused(void **state)
{
    struct forged good = {.status = DNS_OK, .count = 2, .canonical = "a.test", .reason = "", .data = STR("mail.test")};
    struct forged x = good;

    assert_int_equal(decode_forged(DNS_MX, &good), 0);
#define REFUSED(type, change)                                                                                          \
    do {                                                                                                               \
        x = good;                                                                                                      \
        change;                                                                                                        \
        assert_int_equal(decode_forged(type, &x), -EBADMSG);                                                           \
    } while (0)
    REFUSED(DNS_MX, x.status = 4);
    REFUSED(DNS_MX, x.is_secure = 2);
    REFUSED(DNS_MX, x.count = 0);
    REFUSED(DNS_MX, x.count = LIMIT_DNS_RECORDS + 1);
    REFUSED(DNS_MX, x.count = UINT32_MAX);
    REFUSED(DNS_MX, x.status = DNS_NODATA);
    REFUSED(DNS_MX, x.canonical = "a b");
    REFUSED(DNS_MX, x.reason = "a\nb");
    REFUSED(DNS_MX, x.preference = 65536);
    REFUSED(DNS_MX, x.usage = 1);
    REFUSED(DNS_MX, x.data = STR("no host"));
    REFUSED(DNS_MX, x.has_tail = true);
    REFUSED(DNS_PTR, x.preference = 1);
    REFUSED(DNS_PTR, x.data = STR(""));
    REFUSED(DNS_A, (void)0);
    REFUSED(DNS_AAAA, x.data = STR("four"));
    REFUSED(DNS_TLSA, x.data = STR(""));
    REFUSED(DNS_TLSA, x.usage = 256);
#undef REFUSED
    x = good;
    x.data = STR("");
    assert_int_equal(decode_forged(DNS_MX, &x), 0);
}

/* ---- mail routes ---- */

static struct hop_self self = {.hostname = "us.test"};

/* "name pref addr addr; name ..." of a route, or "!errno enhanced". */
static void expect_route(const struct row *rows, size_t count, const char *domain, const char *expected)
{
    _cleanup_buf_ struct buf text = BUF_INIT(65536);
    struct hop_list l = {0};
    struct hop_failure why = {0};
    struct dns d;
    int r;

    start(&d, &conf, rows, count);
    r = hop_find(&d, &self, str_from(domain), &l, &why);
    if (r < 0) {
        assert_int_equal(buf_printf(&text, "!%s %s", r == -EAGAIN ? "later" : "never", why.enhanced), 0);
        assert_int_equal(why.enhanced[0] - '0', r == -EAGAIN ? 4 : 5);
        assert_int_equal(why.code / 100, r == -EAGAIN ? 4 : 5);
        assert_true(strlen(why.text) > 5);
    }
    for (size_t i = 0; i < l.count; i++) {
        assert_int_equal(buf_printf(&text, "%s%s %u", i ? "; " : "", l.hosts[i].name, l.hosts[i].preference), 0);
        for (size_t j = 0; j < l.hosts[i].count; j++)
            assert_int_equal(buf_printf(&text, " %s", l.hosts[i].addresses[j].text), 0);
    }
    assert_string_equal(buf_cstr(&text), expected);
    hop_list_finish(&l);
    dns_finish(&d);
}

#define ROUTE(rows, domain, expected) expect_route(rows, ARRAY_SIZE(rows), domain, expected)

static void preferences_and_addresses(void **state)
{
    static const struct row rows[] = {
        {DNS_MX, "d.test", DNS_OK, false, NULL, "20 c.test|10 b.test|5 a.test|30 a.test"},
        {DNS_A, "a.test", DNS_OK, false, NULL, "192.0.2.1|192.0.2.2"},
        {DNS_AAAA, "a.test", DNS_OK, false, NULL, "2001:db8::1"},
        {DNS_A, "b.test", DNS_OK, false, NULL, "192.0.2.3"},
        {DNS_AAAA, "b.test", DNS_FAILED, false, NULL, NULL},
        {DNS_A, "c.test", DNS_NODATA, false, NULL, NULL},
        {DNS_AAAA, "c.test", DNS_OK, false, NULL, "2001:db8::4"},
    };

    ROUTE(rows, "d.test", "a.test 5 2001:db8::1 192.0.2.1 192.0.2.2; b.test 10 192.0.2.3; c.test 20 2001:db8::4");
    ROUTE(rows, "D.Test.", "a.test 5 2001:db8::1 192.0.2.1 192.0.2.2; b.test 10 192.0.2.3; c.test 20 2001:db8::4");
}

static void equal_preferences_are_shuffled(void **state)
{
    static const struct row rows[] = {
        {DNS_MX, "d.test", DNS_OK, false, NULL, "10 a.test|10 b.test|1 first.test"},
        {DNS_A, "a.test", DNS_OK, false, NULL, "192.0.2.1"},
        {DNS_A, "b.test", DNS_OK, false, NULL, "192.0.2.2"},
        {DNS_A, "first.test", DNS_OK, false, NULL, "192.0.2.3"},
    };
    unsigned a_first = 0;

    for (int i = 0; i < 40; i++) {
        struct hop_list l = {0};
        struct hop_failure why;
        struct dns d;

        start(&d, &conf, rows, ARRAY_SIZE(rows));
        assert_int_equal(hop_find(&d, &self, STR("d.test"), &l, &why), 0);
        assert_int_equal(l.count, 3);
        assert_string_equal(l.hosts[0].name, "first.test");
        a_first += strcmp(l.hosts[1].name, "a.test") == 0;
        hop_list_finish(&l);
        dns_finish(&d);
    }
    assert_in_range(a_first, 1, 39); /* one in 2^39 runs it is not */
}

static void what_has_no_route(void **state)
{
    static const struct row rows[] = {
        {DNS_MX, "null.test", DNS_OK, false, NULL, "0 ."},
        {DNS_MX, "mixed.test", DNS_OK, false, NULL, "0 .|10 a.test"},
        {DNS_MX, "later.test", DNS_FAILED, false, NULL, NULL},
        {DNS_MX, "dead.test", DNS_OK, false, NULL, "10 none.test|20 empty.test"},
        {DNS_A, "empty.test", DNS_NODATA, false, NULL, NULL},
        {DNS_AAAA, "empty.test", DNS_NODATA, false, NULL, NULL},
        {DNS_MX, "half.test", DNS_OK, false, NULL, "10 none.test|20 unsure.test"},
        {DNS_A, "unsure.test", DNS_FAILED, false, NULL, NULL},
        {DNS_AAAA, "unsure.test", DNS_NODATA, false, NULL, NULL},
        {DNS_MX, "rest.test", DNS_OK, false, NULL, "10 unsure.test|20 a.test"},
        {DNS_A, "a.test", DNS_OK, false, NULL, "192.0.2.1"},
        {DNS_MX, "implicit.test", DNS_NODATA, false, NULL, NULL},
        {DNS_A, "implicit.test", DNS_OK, false, NULL, "192.0.2.9"},
        {DNS_MX, "bare.test", DNS_NODATA, false, NULL, NULL},
        {DNS_MX, "number.test", DNS_OK, false, NULL, "10 192.0.2.1"},
    };

    ROUTE(rows, "null.test", "!never 5.1.10"); /* RFC 7505 4.1 */
    ROUTE(rows, "mixed.test", "a.test 10 192.0.2.1");
    ROUTE(rows, "none.test", "!never 5.1.2");
    ROUTE(rows, "later.test", "!later 4.4.3");
    ROUTE(rows, "dead.test", "!never 5.4.4");
    ROUTE(rows, "half.test", "!later 4.4.3");
    ROUTE(rows, "rest.test", "a.test 20 192.0.2.1"); /* RFC 7672 2.1.2 */
    ROUTE(rows, "implicit.test", "implicit.test 0 192.0.2.9");
    ROUTE(rows, "bare.test", "!never 5.1.2");
    ROUTE(rows, "number.test", "!never 5.4.4");
    ROUTE(rows, "no host", "!never 5.1.2");
    ROUTE(rows, "", "!never 5.1.2");
}

/* RFC 5321 5.1: "all records at that preference level and higher-numbered ones MUST be discarded" */
static void ourselves_are_left_out(void **state)
{
    static const struct row rows[] = {
        {DNS_MX, "name.test", DNS_OK, false, NULL, "10 a.test|20 US.test|20 b.test|30 c.test"},
        {DNS_MX, "address.test", DNS_OK, false, NULL, "10 a.test|20 alias.test|30 c.test"},
        {DNS_MX, "only.test", DNS_OK, false, NULL, "10 us.test|20 a.test"},
        {DNS_MX, "loop.test", DNS_OK, false, NULL, "10 loopback.test|20 a.test"},
        {DNS_MX, "dead.test", DNS_OK, false, NULL, "20 us.test|10 none.test"},
        {DNS_MX, "cname.test", DNS_OK, false, NULL, "20 other.test|10 a.test"},
        {DNS_A, "a.test", DNS_OK, false, NULL, "192.0.2.1"},
        {DNS_A, "b.test", DNS_OK, false, NULL, "192.0.2.2"},
        {DNS_A, "c.test", DNS_OK, false, NULL, "192.0.2.3"},
        {DNS_A, "alias.test", DNS_OK, false, NULL, "192.0.2.99|192.0.2.100"},
        {DNS_A, "loopback.test", DNS_OK, false, NULL, "127.0.0.5"},
        {DNS_A, "other.test", DNS_OK, false, "us.test", "192.0.2.4"},
        {DNS_MX, "us.test", DNS_NODATA, false, NULL, NULL},
        {DNS_A, "us.test", DNS_OK, false, NULL, "192.0.2.100"},
    };

    ROUTE(rows, "name.test", "a.test 10 192.0.2.1");
    ROUTE(rows, "address.test", "a.test 10 192.0.2.1");
    ROUTE(rows, "only.test", "!never 5.4.6");
    ROUTE(rows, "loop.test", "!never 5.4.6");
    ROUTE(rows, "dead.test", "!never 5.4.6");
    ROUTE(rows, "cname.test", "a.test 10 192.0.2.1");
    ROUTE(rows, "us.test", "!never 5.4.6");
    ROUTE(rows, "[192.0.2.7]", "[192.0.2.7] 0 192.0.2.7");
    ROUTE(rows, "[IPv6:2001:db8::7]", "[ipv6:2001:db8::7] 0 2001:db8::7");
    ROUTE(rows, "[192.0.2.100]", "!never 5.4.6");
    ROUTE(rows, "[IPv6:::1]", "!never 5.4.6");
    ROUTE(rows, "[2001:db8::7]", "!never 5.1.2");
    ROUTE(rows, "[192.0.2.7", "!never 5.1.2");
    ROUTE(rows, "[x.test]", "!never 5.1.2");
}

static void a_host_that_the_admin_named(void **state)
{
    static const struct row rows[] = {{DNS_A, "us.test", DNS_OK, true, "real.test", "192.0.2.100"},
                                      {DNS_MX, "us.test", DNS_OK, false, NULL, "10 a.test"}};
    struct hop_list l = {0};
    struct hop_failure why;
    struct dns d;

    start(&d, &conf, rows, ARRAY_SIZE(rows));
    assert_int_equal(hop_find_host(&d, STR("us.test"), &l, &why), 0);
    assert_string_equal(l.hosts[0].addresses[0].text, "192.0.2.100");
    assert_string_equal(l.hosts[0].canonical, "real.test");
    assert_true(l.hosts[0].is_secure && l.is_secure);
    hop_list_finish(&l);
    assert_int_equal(hop_find_host(&d, STR("2001:db8::1"), &l, &why), 0);
    assert_string_equal(l.hosts[0].addresses[0].text, "2001:db8::1");
    hop_list_finish(&l);
    assert_int_equal(hop_find_host(&d, STR("none.test"), &l, &why), -EHOSTUNREACH);
    dns_finish(&d);
}

static void names_of_the_hosts_file(void **state)
{
    struct hop_host h = {.name = "smart.test"};

    hosts_parse(STR("# smart.test\n127.0.0.1 localhost\n192.0.2.5\tother SMART.test. # x\n192.0.2.6 xsmart.test\n"
                    "192.0.2.7 # smart.test\nnonsense smart.test\n2001:db8::5 smart.test\n192.0.2.5 smart.test\n"
                    "192.0.2.8 smart.test"),
                &h);
    assert_int_equal(h.count, 3);
    assert_string_equal(h.addresses[0].text, "2001:db8::5");
    assert_string_equal(h.addresses[1].text, "192.0.2.5");
    assert_string_equal(h.addresses[2].text, "192.0.2.8");
    h.count = 0;
    hosts_find("/nonexistent", &h);
    assert_int_equal(h.count, 0);
    hosts_find("/etc", &h);
    assert_int_equal(h.count, 0);
}

static void a_resolver_that_dies(void **state)
{
    struct dns_question q[2] = {DNS_QUESTION(DNS_A), DNS_QUESTION(DNS_A)};
    struct dns d;
    int pair[2];

    dns_init(&d, &conf);
    assert_int_equal(frame_pair(pair), 0);
    d.starts = LIMIT_DNS_STARTS;
    d.child.pid = fork();
    if (d.child.pid == 0)
        _exit(3);
    (void)close(pair[1]);
    d.child.control = pair[0];
    assert_int_equal(dns_question_name(&q[0], STR("a.test")), 0);
    assert_int_equal(dns_question_name(&q[1], STR("b.test")), 0);
    dns_ask(&d, q, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(q[i].answer.status, DNS_FAILED);
        assert_true(q[i].answer.reason.len > 0);
        dns_question_finish(&q[i]);
    }
    dns_finish(&d);
}

/* ---- TLSA ---- */

static void expect_dane(const struct row *rows, size_t count, const char *host, bool is_secure, const char *canonical,
                        int result, enum dane_state state, const char *base)
{
    struct hop_host h = {.is_secure = is_secure};
    struct hop_failure why;
    struct dane dane = {0};
    struct dns d;

    (void)snprintf(h.name, sizeof(h.name), "%s", host);
    (void)snprintf(h.canonical, sizeof(h.canonical), "%s", canonical);
    start(&d, &conf, rows, count);
    assert_int_equal(dane_find(&d, &h, 25, &dane, &why), result);
    if (result == 0) {
        assert_int_equal(dane.state, state);
        assert_string_equal(dane.base, base);
        assert_int_equal(dane.count > 0, state == DANE_VERIFY);
    }
    dns_finish(&d);
}

static void tlsa_records(void **state)
{
    static const struct row rows[] = {
        {DNS_TLSA, "_25._tcp.a.test", DNS_OK, true, NULL, "3 1 1 d|1 1 1 d|2 0 9 d"},
        {DNS_TLSA, "_25._tcp.pkix.test", DNS_OK, true, NULL, "1 1 1 d|0 0 1 d"},
        {DNS_TLSA, "_25._tcp.insecure.test", DNS_OK, false, NULL, "3 1 1 d"},
        {DNS_TLSA, "_25._tcp.later.test", DNS_FAILED, false, NULL, NULL},
        {DNS_TLSA, "_25._tcp.target.test", DNS_NODATA, true, NULL, NULL},
        {DNS_CNAME, "half.test", DNS_OK, true, NULL, "unsigned.test"},
        {DNS_TLSA, "_25._tcp.half.test", DNS_OK, true, NULL, "3 1 1 d"},
        {DNS_CNAME, "open.test", DNS_OK, false, NULL, "unsigned.test"},
        {DNS_TLSA, "_25._tcp.open.test", DNS_FAILED, false, NULL, NULL},
    };
#define DANE(...) expect_dane(rows, ARRAY_SIZE(rows), __VA_ARGS__)
    DANE("a.test", true, "a.test", 0, DANE_VERIFY, "a.test");
    DANE("a.test", false, "a.test", 0, DANE_NONE, "");                  /* RFC 7672 2.2.2: not asked for */
    DANE("later.test", false, "later.test", 0, DANE_NONE, "");          /* the servers that cannot answer TLSA */
    DANE("later.test", true, "later.test", -EAGAIN, DANE_NONE, "");     /* RFC 7672 2.1.2 */
    DANE("pkix.test", true, "pkix.test", 0, DANE_ENCRYPT, "pkix.test"); /* RFC 7672 3.1.3 */
    DANE("insecure.test", true, "insecure.test", 0, DANE_NONE, "");
    DANE("none.test", true, "none.test", 0, DANE_NONE, "");
    DANE("alias.test", true, "a.test", 0, DANE_VERIFY, "a.test");  /* the expanded name first */
    DANE("a.test", true, "target.test", 0, DANE_VERIFY, "a.test"); /* then the alias itself */
    DANE("half.test", false, "unsigned.test", 0, DANE_VERIFY, "half.test");
    DANE("open.test", false, "unsigned.test", 0, DANE_NONE, "");
    DANE("[192.0.2.1]", false, "[192.0.2.1]", 0, DANE_NONE, "");
#undef DANE
}

static int prepare(void **state)
{
    uint8_t own[4] = {192, 0, 2, 100};

    memcpy(self.addresses[0].bytes, own, 4);
    self.addresses[0].len = 4;
    self.count = 1;
    return conf_init(&conf);
}

static int clean(void **state)
{
    conf_finish(&conf);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_hosts),
        cmocka_unit_test(names_in_reverse),
        cmocka_unit_test(forged_answers_are_refused),
        cmocka_unit_test(preferences_and_addresses),
        cmocka_unit_test(equal_preferences_are_shuffled),
        cmocka_unit_test(what_has_no_route),
        cmocka_unit_test(ourselves_are_left_out),
        cmocka_unit_test(a_host_that_the_admin_named),
        cmocka_unit_test(names_of_the_hosts_file),
        cmocka_unit_test(a_resolver_that_dies),
        cmocka_unit_test(tlsa_records),
    };

    return cmocka_run_group_tests(tests, prepare, clean);
}
