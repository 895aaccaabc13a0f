/*
 * `pennypost route DOMAIN`: where mail for a domain would go, and what the way must be like: the mail hosts and their
 * addresses, DANE, MTA-STS. Runs as whoever calls it; DNS is asked through `resolve`, a policy is fetched by `sts` and,
 * for root, kept like the relay keeps it. No mail host is connected to.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "handlers/admin/command.h"
#include "shared/base/macros.h"
#include "shared/dns/dane.h"
#include "shared/sts/sts.h"

#define SMTP_PORT 25

static int explain(const struct hop_failure *why, int error)
{
    (void)printf("  %s %s\n", why->enhanced, why->text);
    return error == -EHOSTUNREACH ? EX_NOHOST : error == -EAGAIN ? EX_TEMPFAIL : EX_OSERR;
}

static void print_list(const struct hop_list *l)
{
    static const char *const kinds[] = {[HOP_MX] = "MX records",
                                        [HOP_IMPLICIT] = "no MX record, so the domain itself",
                                        [HOP_LITERAL] = "an address",
                                        [HOP_HOST] = "a host"};

    (void)printf("%s: %s%s", l->domain, kinds[l->kind], l->is_secure ? ", DNSSEC" : "");
    if (strcmp(l->canonical, l->domain) != 0)
        (void)printf(", alias of %s", l->canonical);
    if (l->unknown > 0)
        (void)printf(", %zu hosts that cannot be found now", l->unknown);
    (void)printf("\n");
}

static void print_dane(struct dns *dns, const struct hop_host *host)
{
    static const char *const states[] = {[DANE_NONE] = "none", [DANE_ENCRYPT] = "encrypt", [DANE_VERIFY] = "verify"};
    struct hop_failure why = {0};
    struct dane dane;

    if (dane_find(dns, host, SMTP_PORT, &dane, &why) < 0)
        (void)printf(" dane=failed (%s)", why.text);
    else if (dane.state == DANE_NONE)
        (void)printf(" dane=none");
    else
        (void)printf(" dane=%s,%s,%zu", states[dane.state], dane.base, dane.count);
}

static void print_host(struct dns *dns, const struct hop_host *host, const struct sts_result *sts)
{
    (void)printf("  %u %s", host->preference, host->name);
    for (size_t i = 0; i < host->count; i++)
        (void)printf(" %s", host->addresses[i].text);
    if (host->is_secure)
        (void)printf(" dnssec");
    print_dane(dns, host);
    if (sts->policy.mode != STS_NONE)
        (void)printf(" mta-sts=%s", sts_policy_allows(&sts->policy, str_from(host->name)) ? "allows" : "forbids");
    (void)printf("\n");
}

static void print_sts(const struct sts_result *sts)
{
    if (sts->is_found)
        (void)printf("  MTA-STS: %s, id %s, %u seconds\n", sts_mode_name(sts->policy.mode), sts->id,
                     sts->policy.max_age);
    if (sts->detail[0])
        (void)printf("  MTA-STS: %s: %s\n", sts->failure ? sts->failure : "cannot be kept", sts->detail);
}

static int show(const struct conf *conf, struct dns *dns, struct str domain)
{
    struct hop_self self;
    struct hop_list list = {0};
    struct hop_failure why = {0};
    struct sts_result sts = {.policy = {.mode = STS_NONE}};
    int r = hop_self_find(conf, &self);

    if (r < 0) {
        (void)fprintf(stderr, "pennypost: own addresses: %s\n", strerror(-r));
        return EX_OSERR;
    }
    r = hop_find(dns, &self, domain, &list, &why);
    if (r < 0) {
        (void)printf("%.*s: no route\n", STR_ARG(domain));
        return explain(&why, r);
    }
    if (list.kind != HOP_LITERAL)
        sts_find(conf, dns, str_from(list.domain), &sts);
    print_list(&list);
    for (size_t i = 0; i < list.count; i++)
        print_host(dns, &list.hosts[i], &sts);
    print_sts(&sts);
    hop_list_finish(&list);
    return 0;
}

int route_main(struct conf *conf, int argc, char **argv)
{
    struct dns dns;
    struct str domain, local;
    int status;

    if (argc != 2 || argv[1][0] == '-' || argv[1][0] == '\0') {
        (void)fputs("usage: pennypost route DOMAIN\n", stderr);
        return EX_USAGE;
    }
    domain = str_from(argv[1]);
    if (str_chr(domain, '@') >= 0) /* an address does as well */
        (void)str_cut(&domain, '@', &local);
    dns_init(&dns, conf);
    status = show(conf, &dns, domain);
    dns_finish(&dns);
    return status;
}
