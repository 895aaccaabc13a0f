/*
 * Mail routes. Runs in trusted processes on answers that were checked; asks through dns.c.
 */
#include "shared/dns/hop.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "shared/base/macros.h"
#include "shared/dns/hosts.h"

/* ---- ourselves ---- */

static bool is_same_address(const struct hop_address *a, const struct hop_address *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

bool hop_is_own_address(const struct hop_self *self, const struct hop_address *address)
{
    static const uint8_t zero[16] = {0};
    static const uint8_t one[16] = {[15] = 1};
    const uint8_t *b = address->bytes;

    /* 127/8, ::1, and what connects to this machine as well: 0/8 and :: */
    if (address->len == 4 ? b[0] == 127 || b[0] == 0 : memcmp(b, zero, 16) == 0 || memcmp(b, one, 16) == 0)
        return true;
    for (size_t i = 0; i < self->count; i++)
        if (is_same_address(&self->addresses[i], address))
            return true;
    return false;
}

static void set_address(struct hop_address *to, const void *bytes, size_t len)
{
    to->len = len;
    memcpy(to->bytes, bytes, len);
    dns_address_print(to->bytes, len, to->text);
}

int hop_self_find(const struct conf *conf, struct hop_self *ret)
{
    struct ifaddrs *list = NULL;

    if (getifaddrs(&list) < 0)
        return -errno;
    *ret = (struct hop_self){.hostname = conf->hostname};
    for (const struct ifaddrs *i = list; i && ret->count < HOP_SELF_ADDRESSES; i = i->ifa_next) {
        if (!i->ifa_addr)
            continue;
        if (i->ifa_addr->sa_family == AF_INET)
            set_address(&ret->addresses[ret->count++],
                        &((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr, 4);
        else if (i->ifa_addr->sa_family == AF_INET6)
            set_address(&ret->addresses[ret->count++],
                        &((const struct sockaddr_in6 *)(const void *)i->ifa_addr)->sin6_addr, 16);
    }
    freeifaddrs(list);
    return 0;
}

static bool is_own_host(const struct hop_self *self, const struct hop_host *host)
{
    struct str own = dns_name_trim(str_from(self->hostname));

    if (own.len > 0 && (str_ieq(str_from(host->name), own) || str_ieq(str_from(host->canonical), own)))
        return true;
    for (size_t i = 0; i < host->count; i++)
        if (hop_is_own_address(self, &host->addresses[i]))
            return true;
    return false;
}

/* ---- failures ---- */

static _printf_(5, 6) int fail(struct hop_failure *why, int error, uint32_t code, const char *enhanced,
                               const char *format, ...)
{
    va_list ap;

    why->code = code;
    why->enhanced = enhanced;
    va_start(ap, format);
    (void)vsnprintf(why->text, sizeof(why->text), format, ap);
    va_end(ap);
    return error;
}

static int fail_temporarily(struct hop_failure *why, const char *what, const char *name, const struct dns_answer *a)
{
    return fail(why, -EAGAIN, 451, "4.4.3", "The %s of %s cannot be found now: %.*s", what, name, STR_ARG(a->reason));
}

static int fail_memory(struct hop_failure *why)
{
    return fail(why, -ENOMEM, 451, "4.3.0", "Out of memory");
}

/* ---- addresses of hosts ---- */

static void set_name(char to[static DNS_NAME_MAX + 1], struct str name)
{
    size_t len = name.len <= DNS_NAME_MAX ? name.len : DNS_NAME_MAX;

    for (size_t i = 0; i < len; i++)
        to[i] = ascii_lower(name.ptr[i]);
    to[len] = '\0';
}

static void take_addresses(struct hop_host *host, const struct dns_answer *a, size_t len)
{
    for (size_t i = 0; i < a->count && i < LIMIT_DNS_ADDRESSES; i++) {
        if (host->count == 0 && i == 0)
            host->is_secure = true;
        set_address(&host->addresses[host->count++], a->records[i].data.ptr, len);
    }
    if (a->count == 0)
        return;
    host->is_secure &= a->is_secure;
    if (a->canonical.len > 0)
        set_name(host->canonical, a->canonical);
}

/* Fills in the addresses of all hosts, IPv6 first. Which hosts nobody could tell about is counted; the answer of the
 * last of them tells why. */
static int find_addresses(struct dns *d, struct hop_list *l, struct dns_answer *ret_failed)
{
    _cleanup_free_ struct dns_question *q = calloc(l->count, 2 * sizeof(*q));

    if (!q)
        return -ENOMEM;
    for (size_t i = 0; i < l->count; i++) {
        q[2 * i] = DNS_QUESTION(DNS_AAAA);
        q[2 * i + 1] = DNS_QUESTION(DNS_A);
        (void)dns_question_name(&q[2 * i], str_from(l->hosts[i].name));
        (void)dns_question_name(&q[2 * i + 1], str_from(l->hosts[i].name));
    }
    dns_ask(d, q, 2 * l->count);
    for (size_t i = 0; i < l->count; i++) {
        struct dns_answer *six = &q[2 * i].answer;
        struct dns_answer *four = &q[2 * i + 1].answer;

        take_addresses(&l->hosts[i], six, 16);
        take_addresses(&l->hosts[i], four, 4);
        if (l->hosts[i].count == 0 && (six->status == DNS_FAILED || four->status == DNS_FAILED)) {
            struct dns_answer *failed = four->status == DNS_FAILED ? four : six;

            l->unknown++;
            dns_answer_finish(ret_failed);
            *ret_failed = *failed;
            *failed = DNS_ANSWER_INIT;
        }
    }
    for (size_t i = 0; i < 2 * l->count; i++)
        dns_question_finish(&q[i]);
    return 0;
}

static void drop_hosts_without_address(struct hop_list *l)
{
    size_t kept = 0;

    for (size_t i = 0; i < l->count; i++)
        if (l->hosts[i].count > 0)
            l->hosts[kept++] = l->hosts[i];
    l->count = kept;
}

/* RFC 5321 5.1: ourselves, and all at that preference and behind it. True: something was dropped. */
static bool drop_ourselves(struct hop_list *l, const struct hop_self *self)
{
    for (size_t i = 0; i < l->count; i++) {
        size_t first = i;

        if (!is_own_host(self, &l->hosts[i]))
            continue;
        while (first > 0 && l->hosts[first - 1].preference == l->hosts[i].preference)
            first--;
        l->count = first;
        return true;
    }
    return false;
}

static int settle(struct dns *d, const struct hop_self *self, struct hop_list *l, struct hop_failure *why)
{
    struct dns_answer failed = DNS_ANSWER_INIT;
    bool is_loop = false;
    int r = find_addresses(d, l, &failed);

    if (r < 0)
        return fail_memory(why);
    if (self)
        is_loop = drop_ourselves(l, self);
    drop_hosts_without_address(l);
    if (l->count == 0 && is_loop)
        r = fail(why, -EHOSTUNREACH, 550, "5.4.6", "Mail for %s would come back to this machine", l->domain);
    else if (l->count == 0 && l->unknown > 0)
        r = fail_temporarily(why, "address", l->domain, &failed);
    else if (l->count == 0 && l->kind == HOP_MX)
        r = fail(why, -EHOSTUNREACH, 550, "5.4.4", "None of the mail hosts of %s has an address", l->domain);
    else if (l->count == 0)
        r = fail(why, -EHOSTUNREACH, 550, "5.1.2", "%s has neither a mail host nor an address", l->domain);
    dns_answer_finish(&failed);
    return r;
}

/* ---- the list of hosts ---- */

struct candidate {
    uint16_t preference;
    uint32_t shuffle;
    struct str name;
};

static int by_preference(const void *left, const void *right)
{
    const struct candidate *a = left;
    const struct candidate *b = right;

    if (a->preference != b->preference)
        return a->preference < b->preference ? -1 : 1;
    return a->shuffle < b->shuffle ? -1 : a->shuffle > b->shuffle;
}

/* Sorts what came as MX records; the root among others is no host (RFC 7505 3). */
static size_t sort_candidates(const struct dns_answer *a, struct candidate out[static LIMIT_DNS_RECORDS])
{
    uint32_t shuffle[LIMIT_DNS_RECORDS] = {0};
    size_t count = 0;

    (void)!getrandom(shuffle, sizeof(shuffle), 0); /* without it the order is the resolver's */
    for (size_t i = 0; i < a->count; i++)
        if (a->records[i].data.len > 0)
            out[count++] = (struct candidate){a->records[i].preference, shuffle[i], a->records[i].data};
    qsort(out, count, sizeof(*out), by_preference);
    return count;
}

static int add_host(struct hop_list *l, struct str name, uint16_t preference)
{
    if (l->count == LIMIT_DNS_HOSTS)
        return 0;
    for (size_t i = 0; i < l->count; i++)
        if (str_ieq(str_from(l->hosts[i].name), name))
            return 0;
    if (!l->hosts)
        l->hosts = calloc(LIMIT_DNS_HOSTS, sizeof(*l->hosts));
    if (!l->hosts)
        return -ENOMEM;
    set_name(l->hosts[l->count].name, name);
    set_name(l->hosts[l->count].canonical, name);
    l->hosts[l->count++].preference = preference;
    return 0;
}

static int add_mx(struct hop_list *l, const struct dns_answer *a)
{
    struct candidate sorted[LIMIT_DNS_RECORDS];
    size_t count = sort_candidates(a, sorted);
    int r = 0;

    for (size_t i = 0; i < count && r == 0; i++)
        r = add_host(l, sorted[i].name, sorted[i].preference);
    return r;
}

static int list_hosts(struct hop_list *l, const struct dns_answer *mx, struct hop_failure *why)
{
    int r = 0;

    if (mx->status == DNS_FAILED)
        return fail_temporarily(why, "mail host", l->domain, mx);
    if (mx->status == DNS_NXDOMAIN)
        return fail(why, -EHOSTUNREACH, 550, "5.1.2", "The domain %s does not exist", l->domain);
    l->is_secure = mx->is_secure;
    if (mx->canonical.len > 0)
        set_name(l->canonical, mx->canonical);
    if (mx->count == 1 && mx->records[0].data.len == 0)
        return fail(why, -EHOSTUNREACH, 556, "5.1.10", "The domain %s takes no mail", l->domain);
    l->kind = mx->status == DNS_OK ? HOP_MX : HOP_IMPLICIT;
    r = l->kind == HOP_MX ? add_mx(l, mx) : add_host(l, str_from(l->domain), 0);
    if (r < 0)
        return fail_memory(why);
    return l->count > 0 ? 0 : fail(why, -EHOSTUNREACH, 550, "5.4.4", "%s names no mail host", l->domain);
}

static int find_name(struct dns *d, const struct hop_self *self, struct str domain, struct hop_list *l,
                     struct hop_failure *why)
{
    struct dns_question mx = DNS_QUESTION(DNS_MX);
    int r;

    set_name(l->domain, domain);
    set_name(l->canonical, domain);
    (void)dns_question_name(&mx, domain);
    dns_ask(d, &mx, 1);
    r = list_hosts(l, &mx.answer, why);
    dns_question_finish(&mx);
    return r < 0 ? r : settle(d, self, l, why);
}

/* One host with one address that needs no looking up. `shown` is how it is named. */
static int add_numeric(struct hop_list *l, struct str shown, const uint8_t *bytes, size_t len)
{
    if (add_host(l, shown, 0) < 0)
        return -ENOMEM;
    set_name(l->domain, shown);
    set_name(l->canonical, shown);
    set_address(&l->hosts[0].addresses[0], bytes, len);
    l->hosts[0].count = 1;
    return 0;
}

/* RFC 5321 4.1.3. */
static int find_literal(const struct hop_self *self, struct str literal, struct hop_list *l, struct hop_failure *why)
{
    struct str inside = str_sub(literal, 1, literal.len - 2);
    bool is_tagged = str_istarts(inside, STR("IPv6:"));
    uint8_t bytes[16];
    size_t len = 0;

    if (is_tagged)
        inside = str_sub(inside, 5, inside.len);
    if (literal.ptr[literal.len - 1] != ']' || dns_address_parse(inside, bytes, &len) < 0 ||
        is_tagged != (str_chr(inside, ':') >= 0))
        return fail(why, -EHOSTUNREACH, 550, "5.1.2", "%.*s is not an address", STR_ARG(literal));
    l->kind = HOP_LITERAL;
    if (add_numeric(l, literal, bytes, len) < 0)
        return fail_memory(why);
    return hop_is_own_address(self, &l->hosts[0].addresses[0])
               ? fail(why, -EHOSTUNREACH, 550, "5.4.6", "%.*s is this machine", STR_ARG(literal))
               : 0;
}

static int give(int r, struct hop_list *l, struct hop_list *ret)
{
    if (r < 0)
        hop_list_finish(l);
    else
        *ret = *l;
    return r;
}

int hop_find(struct dns *d, const struct hop_self *self, struct str domain, struct hop_list *ret,
             struct hop_failure *ret_why)
{
    struct hop_list l = {0};
    int r;

    if (domain.len > 2 && domain.len <= DNS_NAME_MAX && domain.ptr[0] == '[') {
        r = find_literal(self, domain, &l, ret_why);
        return give(r, &l, ret);
    }
    domain = dns_name_trim(domain);
    if (!dns_name_is_host(domain))
        return fail(ret_why, -EHOSTUNREACH, 550, "5.1.2", "That is no domain name");
    r = find_name(d, self, domain, &l, ret_why);
    return give(r, &l, ret);
}

int hop_find_host(struct dns *d, struct str host, struct hop_list *ret, struct hop_failure *ret_why)
{
    struct hop_list l = {.kind = HOP_HOST, .is_secure = true};
    uint8_t bytes[16];
    size_t len = 0;
    int r = 0;

    host = dns_name_trim(host);
    if (dns_address_parse(host, bytes, &len) == 0) {
        r = add_numeric(&l, host, bytes, len) < 0 ? fail_memory(ret_why) : 0;
        return give(r, &l, ret);
    }
    if (!dns_name_is_host(host))
        return fail(ret_why, -EHOSTUNREACH, 550, "5.1.2", "That is no host name");
    set_name(l.domain, host);
    set_name(l.canonical, host);
    if (add_host(&l, host, 0) < 0)
        return fail_memory(ret_why);
    hosts_find(HOSTS_FILE, &l.hosts[0]);
    if (l.hosts[0].count == 0)
        r = settle(d, NULL, &l, ret_why);
    return give(r, &l, ret);
}

void hop_list_finish(struct hop_list *l)
{
    free(l->hosts);
    *l = (struct hop_list){0};
}
