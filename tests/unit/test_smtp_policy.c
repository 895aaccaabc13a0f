/*
 * handlers/smtp/policy.c against a resolver that this test plays.
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

#include <cmocka.h>

#include "handlers/smtp/policy.h"
#include "tests/unit/dns_rows.h"

static void words_of_dnsbl(void **state)
{
    static const char *const bad[] = {
        "",   "=127.0.0.2", "a b",    "x=",   "x=127.0.0",    "x=::1", "x=127.0.0.4-3", "x=127.0.0.4-256",
        "x*", "x*0",        "x*1001", "x*-1", "x=127.0.0.2-", "a..b"};
    struct policy_list l;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(policy_list_parse(str_from(bad[i]), &l), -EINVAL);
    assert_int_equal(policy_list_parse(STR("bl.test"), &l), 0);
    assert_true(l.is_any && l.weight == 1);
    assert_true(policy_list_matches(&l, (const uint8_t[]){127, 0, 0, 2}));
    assert_true(policy_list_matches(&l, (const uint8_t[]){127, 1, 2, 3}));
    assert_false(policy_list_matches(&l, (const uint8_t[]){127, 255, 255, 254})); /* an error of the list's own */
    assert_false(policy_list_matches(&l, (const uint8_t[]){192, 0, 2, 1}));       /* a parked domain */
    assert_int_equal(policy_list_parse(STR("bl.test.=127.0.0.4*3"), &l), 0);
    assert_true(str_eq(l.zone, STR("bl.test")) && l.weight == 3 && !l.is_any);
    assert_true(policy_list_matches(&l, (const uint8_t[]){127, 0, 0, 4}));
    assert_false(policy_list_matches(&l, (const uint8_t[]){127, 0, 0, 5}));
    assert_int_equal(policy_list_parse(STR("bl.test=127.0.0.4-11"), &l), 0);
    assert_true(policy_list_matches(&l, (const uint8_t[]){127, 0, 0, 11}));
    assert_false(policy_list_matches(&l, (const uint8_t[]){127, 0, 0, 12}));
    assert_false(policy_list_matches(&l, (const uint8_t[]){127, 0, 0, 3}));
    assert_false(policy_list_matches(&l, (const uint8_t[]){127, 0, 1, 4}));
}

static const struct row ROWS[] = {
    {DNS_PTR, "1.2.0.192.in-addr.arpa", DNS_OK, false, NULL, "liar.test|good.test"},
    {DNS_A, "good.test", DNS_OK, false, NULL, "192.0.2.9|192.0.2.1"},
    {DNS_A, "liar.test", DNS_OK, false, NULL, "192.0.2.66"},
    {DNS_PTR, "2.2.0.192.in-addr.arpa", DNS_OK, false, NULL, "liar.test"},
    {DNS_PTR, "3.2.0.192.in-addr.arpa", DNS_FAILED, false, NULL, NULL},
    {DNS_PTR, "4.2.0.192.in-addr.arpa", DNS_OK, false, NULL, "unsure.test"},
    {DNS_A, "unsure.test", DNS_FAILED, false, NULL, NULL},
    {DNS_MX, "mailonly.test", DNS_OK, false, NULL, "10 good.test"},
    {DNS_MX, "null.test", DNS_OK, false, NULL, "0 ."},
    {DNS_MX, "xn--bcher-kva.test", DNS_OK, false, NULL, "10 good.test"},
    {DNS_A, "1.2.0.192.bl.test", DNS_OK, false, NULL, "127.0.0.2"},
    {DNS_TXT, "1.2.0.192.bl.test", DNS_OK, false, NULL, "see <https://bl.test>"},
    {DNS_A, "1.2.0.192.other.test", DNS_OK, false, NULL, "127.0.0.4"},
    {DNS_A, "2.2.0.192.bl.test", DNS_FAILED, false, NULL, NULL},
    {DNS_A, "2.2.0.192.parked.test", DNS_OK, false, NULL, "192.0.2.200"},
    {DNS_PTR, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", DNS_OK, false, NULL,
     "six.test"},
    {DNS_AAAA, "six.test", DNS_OK, false, NULL, "2001:db8::1"},
};

/* "key=value|key=value". What RCPT is told: "250", or code and enhanced code. */
static void expect_of(const char *sender, const char *settings, const char *address, const char *helo,
                      const char *mailbox, const char *expected)
{
    struct str rest = str_from(settings), one;
    struct smtp_answer answer = {.code = 250};
    char text[32];
    struct conf conf;
    struct policy p;
    struct peer peer;
    bool is_more = rest.len > 0;

    assert_int_equal(conf_init(&conf), 0);
    assert_int_equal(conf_set(&conf, STR("hostname"), STR("us.test")), 0);
    while (is_more) {
        struct str key;

        is_more = str_cut(&rest, '|', &one);
        (void)str_cut(&one, '=', &key);
        assert_int_equal(conf_set(&conf, key, one), 0);
    }
    assert_int_equal(peer_from_text(str_from(address), 1000, STR("192.0.2.77"), 25, &peer), 0);
    policy_init(&p, &conf, true);
    start(&p.dns, &conf, ROWS, ARRAY_SIZE(ROWS));
    policy_begin(&p, &peer);
    (void)policy_hello(&p, str_from(helo));
    for (int i = 0; i < 2; i++) { /* the second time from memory */
        if (policy_admits(&p, str_from(sender), str_from(mailbox), &answer))
            answer = (struct smtp_answer){.code = 250};
        (void)snprintf(text, sizeof(text), "%u%s%s", answer.code, answer.code == 250 ? "" : " ", answer.enhanced);
        assert_string_equal(text, expected);
    }
    policy_finish(&p);
    conf_finish(&conf);
}

static void expect(const char *settings, const char *address, const char *helo, const char *mailbox,
                   const char *expected)
{
    expect_of("a@b.test", settings, address, helo, mailbox, expected);
}

#define ALICE "alice@us.test"

static void nothing_by_default(void **state)
{
    expect("", "192.0.2.1", "x", ALICE, "250");
}

static void reverse_names(void **state)
{
    expect("reverse_dns=match", "192.0.2.1", "x", ALICE, "250");
    expect("reverse_dns=match", "192.0.2.2", "x", ALICE, "550 5.7.25");
    expect("reverse_dns=name", "192.0.2.2", "x", ALICE, "250");
    expect("reverse_dns=name", "192.0.2.9", "x", ALICE, "550 5.7.25");
    expect("reverse_dns=log", "192.0.2.9", "x", ALICE, "250");
    expect("reverse_dns=name", "192.0.2.3", "x", ALICE, "450 4.7.25");
    expect("reverse_dns=match", "192.0.2.4", "x", ALICE, "450 4.7.25");
    expect("reverse_dns=match", "2001:db8::1", "x", ALICE, "250");
    expect("reverse_dns=match", "2001:db8::2", "x", ALICE, "550 5.7.25");
}

static void who_is_exempt(void **state)
{
    expect("reverse_dns=match", "192.0.2.2", "x", "postmaster@us.test", "250");
    expect("reverse_dns=match", "192.0.2.2", "x", "Abuse@us.test", "250");
    expect("reverse_dns=match", "192.0.2.2", "x", "Postmaster", "250");
    expect("reverse_dns=match", "192.0.2.2", "x", "postmasters@us.test", "550 5.7.25");
    expect("reverse_dns=match|networks=192.0.2.0/24", "192.0.2.2", "x", ALICE, "250");
    expect("reverse_dns=match|policy_exempt=10.0.0.0/8 192.0.2.0/24", "192.0.2.2", "x", ALICE, "250");
}

static void names_of_helo(void **state)
{
    expect("helo_checks=own", "192.0.2.1", "US.test", ALICE, "550 5.7.1");
    expect("helo_checks=own", "192.0.2.1", "localhost", ALICE, "550 5.7.1");
    expect("helo_checks=own", "192.0.2.1", "[192.0.2.77]", ALICE, "550 5.7.1");
    expect("helo_checks=own", "192.0.2.1", "[192.0.2.1]", ALICE, "250");
    expect("helo_checks=own", "192.0.2.1", "good.test", ALICE, "250");
    expect("helo_checks=fqdn", "192.0.2.1", "good.test", ALICE, "250");
    expect("helo_checks=fqdn", "192.0.2.1", "good", ALICE, "550 5.5.2");
    expect("helo_checks=fqdn", "192.0.2.1", "192.0.2.1", ALICE, "550 5.5.2");
    expect("helo_checks=fqdn", "192.0.2.1", "[192.0.2.1]", ALICE, "250");
    expect("helo_checks=literal", "192.0.2.1", "[192.0.2.1]", ALICE, "250");
    expect("helo_checks=literal", "192.0.2.1", "[192.0.2.2]", ALICE, "550 5.7.1");
    expect("helo_checks=literal", "2001:db8::1", "[IPv6:2001:DB8:0::1]", ALICE, "250");
    expect("helo_checks=literal", "192.0.2.1", "good.test", ALICE, "250");
    expect("helo_checks=dns", "192.0.2.1", "good.test", ALICE, "250");
    expect("helo_checks=dns", "192.0.2.1", "mailonly.test", ALICE, "250");
    expect("helo_checks=dns", "192.0.2.1", "none.test", ALICE, "550 5.7.1");
    expect("helo_checks=dns", "192.0.2.1", "unsure.test", ALICE, "450 4.4.3");
    expect("helo_checks=fqdn dns", "192.0.2.1", "[192.0.2.9]", ALICE, "250");
}

static void block_lists(void **state)
{
    expect("dnsbl=bl.test", "192.0.2.1", "x", ALICE, "554 5.7.1");
    expect("dnsbl=bl.test=127.0.0.3", "192.0.2.1", "x", ALICE, "250");
    expect("dnsbl=bl.test=127.0.0.2-4", "192.0.2.1", "x", ALICE, "554 5.7.1");
    expect("dnsbl=bl.test", "192.0.2.2", "x", ALICE, "250"); /* a list that does not answer */
    expect("dnsbl=parked.test", "192.0.2.2", "x", ALICE, "250");
    expect("dnsbl=bl.test other.test|dnsbl_threshold=2", "192.0.2.1", "x", ALICE, "554 5.7.1");
    expect("dnsbl=bl.test|dnsbl_threshold=2", "192.0.2.1", "x", ALICE, "250");
    expect("dnsbl=bl.test*2|dnsbl_threshold=2", "192.0.2.1", "x", ALICE, "554 5.7.1");
}

static void domains_of_senders(void **state)
{
    static const char *const rows[][2] = {
        {"a@good.test", "250"},
        {"a@mailonly.test", "250"},
        {"a@none.test", "550 5.1.8"},
        {"a@null.test", "550 5.7.27"},
        {"a@unsure.test", "451 4.4.3"},
        {"", "250"},
        {"a@us.test", "250"},
        {"a@[192.0.2.9]", "250"},
        {"a@b\xc3\xbc\x63her.test", "250"},
        {"\"x@none.test\"@good.test", "250"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        expect_of(rows[i][0], "sender_dns=yes", "192.0.2.1", "x", ALICE, rows[i][1]);
    expect_of("a@none.test", "sender_dns=yes", "192.0.2.1", "x", "postmaster@us.test", "250");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_of_dnsbl),     cmocka_unit_test(nothing_by_default), cmocka_unit_test(reverse_names),
        cmocka_unit_test(who_is_exempt),      cmocka_unit_test(names_of_helo),      cmocka_unit_test(block_lists),
        cmocka_unit_test(domains_of_senders),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
