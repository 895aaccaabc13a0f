/*
 * Where to, and with which TLS: the decisions before a connection. Runs in relay-courier; asks resolve.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "handlers/relay/courier.h"
#include "shared/base/log.h"

static int refuse(struct courier *c, unsigned code, const char *enhanced, const char *text)
{
    talk_reply_set(&c->last, TALK_GREETING, code, enhanced, "%s", text);
    return -ECANCELED;
}

/* The MTA-STS policy of the domain, or of a host that the admin named (RFC 8461 3.4), unless he says what TLS it must
 * have. */
static void find_sts(struct courier *c)
{
    bool is_name = c->job.hop.len > 0 && c->job.hop.ptr[0] != '[';

    if (c->job.tls != JOB_TLS_AUTO || c->hops.kind == HOP_LITERAL || !is_name)
        return;
    sts_find(c->conf, &c->dns, str_from(c->hops.domain), &c->sts);
    if (c->sts.failure)
        LOG_EVENT(LOG_NOTICE, "sts-policy", LOG_FC("policy_domain", c->hops.domain),
                  LOG_FC("result_type", c->sts.failure), LOG_FC("reason", c->sts.detail));
}

int courier_find(struct courier *c)
{
    struct hop_failure why = {.enhanced = "4.4.3", .code = 450};
    int r = c->job.kind != JOB_MX ? hop_find_host(&c->dns, c->job.hop, &c->hops, &why)
                                  : hop_find(&c->dns, &c->self, c->job.hop, &c->hops, &why);

    if (r == 0) {
        find_sts(c);
        return 0;
    }
    if (r != -EAGAIN && r != -EHOSTUNREACH)
        return refuse(c, 451, "4.3.0", strerror(-r));
    /* A host that the admin named and that is not there is his mistake: the mail waits for him. */
    if (r == -EHOSTUNREACH && c->job.kind != JOB_MX)
        return refuse(c, 450, "4.4.4", why.text);
    return refuse(c, why.code, why.enhanced, why.text);
}

/* DANE (RFC 7672 2.2): only where the MX records were secure too. */
static int find_dane(struct courier *c, const struct hop_host *host, struct dane *ret)
{
    struct hop_failure why = {.text = ""};
    int r = 0;

    *ret = (struct dane){.state = DANE_NONE};
    if (c->hops.kind == HOP_LITERAL || !c->hops.is_secure)
        return 0;
    r = dane_find(&c->dns, host, (uint16_t)c->job.port, ret, &why);
    return r == -EAGAIN ? refuse(c, 450, "4.4.3", why.text) : r < 0 ? refuse(c, 451, "4.3.0", strerror(-r)) : 0;
}

static int use_dane(struct courier *c, const struct dane *dane, struct buf *names, struct talk_host *ret)
{
    ret->tls = TALK_TLS_DANE;
    ret->name = str_from(dane->base);
    for (size_t i = 0; i < dane->count && ret->tlsa_count < TALK_TLSA; i++)
        ret->tlsa[ret->tlsa_count++] = (struct talk_tlsa){
            .usage = dane->records[i].usage,
            .selector = dane->records[i].selector,
            .matching = dane->records[i].matching,
            .data = {(const char *)dane->records[i].data, dane->records[i].len},
        };
    /* RFC 7672 3.2.2: the domain itself, for certificates of those who think of it. */
    if (buf_printf(names, "%s %s", c->hops.domain, c->hops.canonical) < 0)
        return refuse(c, 451, "4.3.0", "out of memory");
    ret->names = buf_str(names);
    return 0;
}

static int use_verify(struct courier *c, const struct hop_host *host, struct buf *names, struct talk_host *ret)
{
    struct str left = c->job.names, name;
    int r = 0;

    ret->tls = TALK_TLS_VERIFY;
    for (unsigned i = 0; r == 0 && i < TALK_NAMES && str_word(&left, &name); i++)
        r = buf_printf(names, "%.*s ", STR_ARG(name));
    if (r == 0 && names->len == 0)
        r = buf_add_str(names, str_from(host->name));
    ret->names = buf_str(names);
    return r < 0 ? refuse(c, 451, "4.3.0", "out of memory") : 0;
}

/* RFC 8689 4.2.1, 5: what a host lacks, by its last answer and words of ours, is no reason to wait: when no other host
 * has it either, the sender hears at once. Whatever else keeps a host from taking the message may pass. */
void courier_weigh(struct courier *c)
{
    struct talk_reply *l = &c->last;

    if (!c->job.is_requiretls)
        return;
    if (l->is_ours && (strcmp(l->enhanced, "4.7.5") == 0 || strcmp(l->enhanced, "5.7.30") == 0)) {
        if (l->code / 100 == 4)
            (void)snprintf(l->enhanced, sizeof(l->enhanced), "5.7.10");
        l->code = 550;
    } else if (l->code / 100 == 4) {
        c->passing = *l;
    }
}

/* Nobody has said what this host must have. REQUIRETLS (RFC 8689 4.2.1) and a password want to know whom they meet, and
 * a name that insecure DNS gave says nothing. */
static int automatic(struct courier *c, const struct hop_host *host, struct buf *names, struct dane *dane,
                     struct talk_host *ret)
{
    bool is_known = c->job.kind != JOB_MX || c->hops.is_secure;
    int r = find_dane(c, host, dane);

    if (r < 0)
        return r;
    if (dane->state == DANE_VERIFY)
        return use_dane(c, dane, names, ret);
    if (c->sts.policy.mode == STS_ENFORCE) {
        if (!sts_policy_allows(&c->sts.policy, str_from(host->name)))
            return refuse(c, 450, "4.7.5", "the domain's MTA-STS policy does not name the host");
        return use_verify(c, host, names, ret);
    }
    if (c->job.is_requiretls && !is_known)
        return refuse(c, 550, "5.7.30",
                      "the message demands TLS all the way (REQUIRETLS), and who the next host is cannot be made sure");
    if (c->job.is_requiretls || c->job.login != TALK_LOGIN_NONE)
        return use_verify(c, host, names, ret);
    if (c->sts.policy.mode == STS_TESTING && dane->state != DANE_ENCRYPT) {
        c->is_trial = sts_policy_allows(&c->sts.policy, str_from(host->name));
        if (c->is_trial)
            return use_verify(c, host, names, ret);
        LOG_EVENT(LOG_NOTICE, "sts-testing", LOG_FC("policy_domain", c->hops.domain), LOG_FC("mx", host->name),
                  LOG_FC("result_type", STS_RESULT_VALIDATION));
    }
    ret->tls = dane->state == DANE_ENCRYPT ? TALK_TLS_ENCRYPT : TALK_TLS_MAY;
    return 0;
}

static int only_dane(struct courier *c, const struct hop_host *host, struct buf *names, struct dane *dane,
                     struct talk_host *ret)
{
    int r = find_dane(c, host, dane);

    if (r < 0)
        return r;
    return dane->state == DANE_VERIFY
               ? use_dane(c, dane, names, ret)
               : refuse(c, 454, "4.7.5", "DANE is demanded and the host has no secure TLSA records that can be used");
}

int courier_policy(struct courier *c, const struct hop_host *host, struct buf *names, struct dane *records,
                   struct talk_host *ret)
{
    const struct job *j = &c->job;

    c->is_trial = false;
    *ret = (struct talk_host){
        .name = str_from(host->name),
        .helo = str_from(c->conf->hostname),
        .is_implicit = j->is_implicit,
        .percent = j->percent,
        .user = j->user,
        .secret = j->secret,
        .login = j->login,
    };
    switch (j->tls) {
    case JOB_TLS_AUTO:
        return automatic(c, host, names, records, ret);
    case JOB_TLS_NONE:
        ret->tls = TALK_TLS_NONE;
        break;
    case JOB_TLS_MAY:
        ret->tls = TALK_TLS_MAY;
        break;
    case JOB_TLS_ENCRYPT:
        ret->tls = TALK_TLS_ENCRYPT;
        break;
    case JOB_TLS_VERIFY:
        return use_verify(c, host, names, ret);
    case JOB_TLS_DANE:
        return only_dane(c, host, names, records, ret);
    }
    /* RFC 8689 4.2.1: REQUIRETLS is not satisfied by encryption with anybody. */
    return j->is_requiretls ? use_verify(c, host, names, ret) : 0;
}
