/*
 * pennypost check --dns: whether the DNS says what other mail servers will want to see of this one: mail hosts of our
 * domains, names of our addresses, SPF, and a resolver that can be believed. Runs as whoever calls it; asks through
 * `resolve` and connects to nobody.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handlers/admin/command.h"
#include "shared/base/macros.h"
#include "shared/dns/hop.h"

#define DOMAINS_MAX   64
#define ADDRESSES_MAX 32

struct report {
    struct dns dns;
    struct hop_self self;
    unsigned passed;
    unsigned failed;
};

static _printf_(4, 5) void say(struct report *r, bool is_fine, const char *hint, const char *format, ...)
{
    va_list ap;

    *(is_fine ? &r->passed : &r->failed) += 1;
    va_start(ap, format);
    (void)printf("%s  ", is_fine ? "ok  " : "FAIL");
    (void)vprintf(format, ap);
    va_end(ap);
    (void)printf("\n");
    if (!is_fine && hint)
        (void)printf("      hint: %s\n", hint);
}

static void ask(struct report *r, struct dns_question *q, enum dns_type type, struct str name)
{
    *q = DNS_QUESTION(type);
    (void)dns_question_name(q, name);
    dns_ask(&r->dns, q, 1);
}

/* What the answer lacks, in words. */
static const char *absence(const struct dns_answer *a)
{
    return a->status == DNS_NXDOMAIN ? "does not exist" : a->status == DNS_NODATA ? "has none" : "cannot be found now";
}

static bool is_ours(const struct report *r, const struct dns_answer *a)
{
    for (size_t i = 0; i < a->count; i++) {
        struct hop_address address = {.len = a->records[i].data.len};

        memcpy(address.bytes, a->records[i].data.ptr, address.len);
        if (hop_is_own_address(&r->self, &address))
            return true;
    }
    return false;
}

/* ---- our name ---- */

static void check_hostname(struct report *r, const char *hostname)
{
    struct dns_question q[2];
    bool is_one = false;

    ask(r, &q[0], DNS_A, str_from(hostname));
    ask(r, &q[1], DNS_AAAA, str_from(hostname));
    is_one = is_ours(r, &q[0].answer) || is_ours(r, &q[1].answer);
    if (q[0].answer.count + q[1].answer.count == 0)
        say(r, false, "set hostname in pennypost.conf to a name that has an A or AAAA record",
            "%s, our name in greetings: %s", hostname, absence(&q[0].answer));
    else
        say(r, is_one, "right behind address translation; otherwise the record or hostname is wrong",
            "%s, our name in greetings, %s", hostname,
            is_one ? "is an address of this machine" : "is no address of this machine");
    dns_question_finish(&q[0]);
    dns_question_finish(&q[1]);
}

/* Addresses that a stranger can see: neither of this machine alone nor of a network inside (RFC 1918, RFC 4193). */
static bool is_public(const struct hop_address *a)
{
    const uint8_t *b = a->bytes;
    static const struct hop_self nobody;

    if (hop_is_own_address(&nobody, a))
        return false;
    if (a->len == 4)
        return b[0] != 10 && (b[0] != 172 || (b[1] & 0xf0) != 16) && (b[0] != 192 || b[1] != 168) &&
               (b[0] != 169 || b[1] != 254);
    return (b[0] & 0xfe) != 0xfc && b[0] != 0xfe;
}

static void check_reverse(struct report *r, const struct hop_address *a)
{
    _cleanup_buf_ struct buf name = BUF_INIT(2 * DNS_NAME_MAX);
    struct dns_question ptr, forward = DNS_QUESTION(DNS_A);
    bool leads_back = false;

    if (dns_name_reverse(a->bytes, a->len, a->len == 4 ? STR("in-addr.arpa") : STR("ip6.arpa"), &name) < 0)
        return;
    ask(r, &ptr, DNS_PTR, buf_str(&name));
    if (ptr.answer.count > 0) {
        ask(r, &forward, a->len == 4 ? DNS_A : DNS_AAAA, ptr.answer.records[0].data);
        for (size_t i = 0; i < forward.answer.count; i++)
            leads_back |= memcmp(forward.answer.records[i].data.ptr, a->bytes, a->len) == 0;
    }
    if (ptr.answer.count == 0)
        say(r, false,
            "have whoever gave you the address set its PTR record to hostname: many servers refuse mail without",
            "name of %s: %s", a->text, absence(&ptr.answer));
    else
        say(r, leads_back, "its A or AAAA record must lead back to the address", "name of %s: %.*s%s", a->text,
            STR_ARG(ptr.answer.records[0].data), leads_back ? "" : ", which does not lead back");
    dns_question_finish(&ptr);
    dns_question_finish(&forward);
}

/* ---- our domains ---- */

static bool has_own_mx(struct report *r, const struct dns_answer *mx)
{
    bool is_one = false;

    for (size_t i = 0; i < mx->count && i < LIMIT_DNS_HOSTS && !is_one; i++) {
        struct dns_question q[2];

        ask(r, &q[0], DNS_A, mx->records[i].data);
        ask(r, &q[1], DNS_AAAA, mx->records[i].data);
        is_one = str_ieq(mx->records[i].data, str_from(r->self.hostname)) || is_ours(r, &q[0].answer) ||
                 is_ours(r, &q[1].answer);
        dns_question_finish(&q[0]);
        dns_question_finish(&q[1]);
    }
    return is_one;
}

static void check_mx(struct report *r, struct str domain)
{
    struct dns_question mx;

    ask(r, &mx, DNS_MX, domain);
    if (mx.answer.count == 0)
        say(r, false, "an MX record with hostname says who takes the domain's mail", "mail hosts of %.*s: %s",
            STR_ARG(domain), absence(&mx.answer));
    else
        say(r, has_own_mx(r, &mx.answer), "none of them is hostname or an address of this machine",
            "mail hosts of %.*s: %zu, the first %.*s", STR_ARG(domain), mx.answer.count,
            STR_ARG(mx.answer.records[0].data));
    dns_question_finish(&mx);
}

/* RFC 7208 4.5: exactly one. What is in it is for the receivers to judge. */
static void check_spf(struct report *r, struct str domain)
{
    struct dns_question txt;
    char text[200];
    struct str found = STR(""), shown = {text, 0};
    size_t count = 0;

    ask(r, &txt, DNS_TXT, domain);
    for (size_t i = 0; i < txt.answer.count; i++) {
        struct str data = txt.answer.records[i].data;

        if (!str_istarts(data, STR("v=spf1")) || (data.len > 6 && data.ptr[6] != ' '))
            continue;
        found = data;
        count++;
    }
    for (size_t i = 0; count == 1 && i < found.len && i < sizeof(text); i++) /* for a terminal */
        text[shown.len++] = found.ptr[i] < ' ' || found.ptr[i] > '~' ? '?' : found.ptr[i];
    if (txt.answer.status == DNS_FAILED)
        say(r, false, "is there a DNS server that answers? /etc/resolv.conf, or key dns_servers",
            "SPF record of %.*s: %s", STR_ARG(domain), absence(&txt.answer));
    else
        say(r, count == 1, "one TXT record like \"v=spf1 mx -all\" says who sends for the domain",
            "SPF record of %.*s: %zu%s%.*s", STR_ARG(domain), count, count == 1 ? ", " : "", STR_ARG(shown));
    dns_question_finish(&txt);
}

int check_dns(struct conf *conf)
{
    struct report *r = calloc(1, sizeof(*r));
    struct str rest = str_from(conf->domains), domain;
    size_t count = 0;
    int status;

    if (!r || hop_self_find(conf, &r->self) < 0) {
        (void)fputs("pennypost check: own addresses cannot be found\n", stderr);
        free(r);
        return 1;
    }
    dns_init(&r->dns, conf);
    check_hostname(r, conf->hostname);
    for (size_t i = 0; i < r->self.count && i < ADDRESSES_MAX; i++)
        if (is_public(&r->self.addresses[i]))
            check_reverse(r, &r->self.addresses[i]);
    for (; count < DOMAINS_MAX && str_word(&rest, &domain); count++) {
        check_mx(r, domain);
        check_spf(r, domain);
    }
    if (count == 0) {
        check_mx(r, str_from(conf->hostname));
        check_spf(r, str_from(conf->hostname));
    }
    dns_finish(&r->dns);
    (void)printf("%u ok, %u failed\n", r->passed, r->failed);
    status = r->failed > 0 || r->passed == 0 ? 1 : 0;
    free(r);
    return status;
}
