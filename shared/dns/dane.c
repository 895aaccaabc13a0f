/*
 * TLSA records. Runs in trusted processes; asks through dns.c.
 */
#include "shared/dns/dane.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "shared/base/macros.h"

/* RFC 6698 2.1.2, 2.1.3: whole data, SHA-256, SHA-512; certificate or public key. */
static bool is_usable(const struct dns_record *r)
{
    static const size_t lengths[] = {0, 32, 64};

    return (r->usage == DANE_TA || r->usage == DANE_EE) && r->selector <= 1 && r->matching < ARRAY_SIZE(lengths) &&
           r->data.len <= DANE_DATA && (r->matching == 0 || r->data.len == lengths[r->matching]);
}

static void take_records(const struct dns_answer *a, struct dane *ret)
{
    for (size_t i = 0; i < a->count && ret->count < DANE_RECORDS; i++) {
        struct dane_record *to = &ret->records[ret->count];

        if (!is_usable(&a->records[i]))
            continue;
        to->usage = a->records[i].usage;
        to->selector = a->records[i].selector;
        to->matching = a->records[i].matching;
        to->len = a->records[i].data.len;
        memcpy(to->data, a->records[i].data.ptr, to->len);
        ret->count++;
    }
    ret->state = ret->count > 0 ? DANE_VERIFY : DANE_ENCRYPT;
}

static int fail(const struct dns_question *q, struct hop_failure *why)
{
    why->code = 451;
    why->enhanced = "4.7.5"; /* RFC 3463 3.8: cryptographic failure */
    (void)snprintf(why->text, sizeof(why->text), "%s cannot be found now: %.*s", q->name, STR_ARG(q->answer.reason));
    return -EAGAIN;
}

/* One candidate base domain. 0, also without records; -EAGAIN. */
static int try_base(struct dns *d, const char *base, uint16_t port, struct dane *ret, struct hop_failure *why)
{
    struct dns_question q = DNS_QUESTION(DNS_TLSA);
    char name[DNS_NAME_MAX + 32];
    int r = 0;

    (void)snprintf(name, sizeof(name), "_%u._tcp.%s", port, base);
    if (dns_question_name(&q, str_from(name)) < 0)
        return 0; /* a name so long that it cannot have such records */
    dns_ask(d, &q, 1);
    if (q.answer.status == DNS_FAILED) {
        r = fail(&q, why);
    } else if (q.answer.status == DNS_OK && q.answer.is_secure) {
        take_records(&q.answer, ret);
        (void)snprintf(ret->base, sizeof(ret->base), "%s", base);
    }
    dns_question_finish(&q);
    return r;
}

/* RFC 7672 2.2.2, insecure CNAME: the alias itself may be secure although where it leads is not. */
static int is_alias_secure(struct dns *d, const struct hop_host *host, bool *ret, struct hop_failure *why)
{
    struct dns_question q = DNS_QUESTION(DNS_CNAME);
    int r = 0;

    (void)dns_question_name(&q, str_from(host->name));
    dns_ask(d, &q, 1);
    if (q.answer.status == DNS_FAILED)
        r = fail(&q, why);
    *ret = q.answer.status == DNS_OK && q.answer.is_secure;
    dns_question_finish(&q);
    return r;
}

int dane_find(struct dns *d, const struct hop_host *host, uint16_t port, struct dane *ret, struct hop_failure *ret_why)
{
    struct dane dane = {.state = DANE_NONE};
    bool is_alias = strcmp(host->name, host->canonical) != 0;
    bool is_tried = host->is_secure;
    int r = 0;

    if (host->name[0] == '[') { /* RFC 7672 2.2: address literals have no DANE */
        *ret = dane;
        return 0;
    }
    if (host->is_secure && is_alias)
        r = try_base(d, host->canonical, port, &dane, ret_why);
    else if (!host->is_secure && is_alias)
        r = is_alias_secure(d, host, &is_tried, ret_why);
    if (r == 0 && is_tried && dane.state == DANE_NONE)
        r = try_base(d, host->name, port, &dane, ret_why);
    if (r == 0)
        *ret = dane;
    return r;
}
