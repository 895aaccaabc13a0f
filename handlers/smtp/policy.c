/*
 * The checks. Runs in the monitor on answers that shared/dns has checked.
 */
#include "handlers/smtp/policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/route/idna.h"

#define POLICY_MS  8000 /* for each step; clients wait five minutes for RCPT (RFC 5321 4.5.3.2.3) */
#define WEIGHT_MAX 1000

/* ---- what is configured ---- */

/* Is `word` one of the blank-separated words of a setting? */
static bool has_word(const char *setting, const char *word)
{
    struct str rest = str_from(setting), one;

    while (str_word(&rest, &one))
        if (str_ieq(one, str_from(word)))
            return true;
    return false;
}

static bool wants_name(const struct conf *conf)
{
    return has_word(conf->reverse_dns, "name") || has_word(conf->reverse_dns, "match") ||
           has_word(conf->reverse_dns, "log");
}

/* "127.0.0.4" or "127.0.0.4-11". */
static int parse_filter(struct str text, struct policy_list *ret)
{
    uint8_t bytes[16];
    size_t len = 0;
    uint32_t last = 0;
    struct str first;
    bool is_range = str_cut(&text, '-', &first);

    if (dns_address_parse(first, bytes, &len) < 0 || len != 4)
        return -EINVAL;
    if (is_range && (str_to_u32(text, &last) < 0 || last > UINT8_MAX || last < bytes[3]))
        return -EINVAL;
    memcpy(ret->first, bytes, 4);
    ret->last = is_range ? (uint8_t)last : bytes[3];
    return 0;
}

int policy_list_parse(struct str word, struct policy_list *ret)
{
    struct policy_list l = {.is_any = true, .weight = 1};
    struct str before;
    bool has_weight = str_cut(&word, '*', &before);
    struct str weight = word;
    bool has_filter = str_cut(&before, '=', &l.zone);

    if (has_weight && (str_to_u32(weight, &l.weight) < 0 || l.weight == 0 || l.weight > WEIGHT_MAX))
        return -EINVAL;
    if (has_filter && parse_filter(before, &l) < 0)
        return -EINVAL;
    l.is_any = !has_filter;
    l.zone = dns_name_trim(l.zone);
    if (!dns_name_is_host(l.zone))
        return -EINVAL;
    *ret = l;
    return 0;
}

bool policy_list_matches(const struct policy_list *list, const uint8_t address[static 4])
{
    if (list->is_any)
        return address[0] == 127 && address[1] != 255;
    return memcmp(list->first, address, 3) == 0 && address[3] >= list->first[3] && address[3] <= list->last;
}

static void take_lists(struct policy *p)
{
    struct str rest = str_from(p->conf->dnsbl), word;

    while (p->list_count < POLICY_LISTS && str_word(&rest, &word)) {
        if (policy_list_parse(word, &p->lists[p->list_count]) == 0)
            p->list_count++;
        else
            LOG_EVENT(LOG_WARNING, "policy-setting", LOG_FC("key", "dnsbl"), LOG_F("word", word));
    }
}

void policy_init(struct policy *p, const struct conf *conf, bool is_wanted)
{
    *p = (struct policy){.conf = conf};
    dns_init(&p->dns, conf);
    p->dns.timeout_ms = POLICY_MS;
    p->is_wanted = is_wanted && (conf->dnsbl[0] || conf->helo_checks[0] || conf->sender_dns || wants_name(conf));
    if (p->is_wanted)
        take_lists(p);
}

static void forget(struct policy *p)
{
    for (size_t i = 0; p->questions && i < POLICY_SLOTS; i++)
        dns_question_finish(&p->questions[i]);
    free(p->questions);
    p->questions = NULL;
    p->is_settled = p->is_name_known = false;
    p->name[0] = p->helo[0] = p->sender_domain[0] = '\0';
}

void policy_finish(struct policy *p)
{
    forget(p);
    dns_finish(&p->dns);
}

/* ---- asking ---- */

static void ask(struct policy *p, size_t slot, enum dns_type type, struct str name)
{
    struct dns_question *q = &p->questions[slot];

    dns_question_finish(q);
    *q = DNS_QUESTION(type);
    if (dns_question_name(q, name) == 0)
        dns_start(&p->dns, q);
}

/* About the peer's address, under `zone`. */
static void ask_about_address(struct policy *p, size_t slot, enum dns_type type, struct str zone)
{
    _cleanup_buf_ struct buf name = BUF_INIT(2 * DNS_NAME_MAX);

    if (dns_name_reverse(p->address, p->address_len, zone, &name) == 0)
        ask(p, slot, type, buf_str(&name));
}

void policy_begin(struct policy *p, const struct peer *peer)
{
    forget(p);
    if (!p->is_wanted || peer->kind != PEER_INET || peer->is_loopback ||
        peer_in_networks(peer->address, str_from(p->conf->policy_exempt)) ||
        peer_in_networks(peer->address, str_from(p->conf->networks)) ||
        dns_address_parse(str_from(peer->address), p->address, &p->address_len) < 0)
        return;
    p->questions = calloc(POLICY_SLOTS, sizeof(*p->questions));
    if (!p->questions)
        return;
    for (size_t i = 0; i < POLICY_SLOTS; i++)
        p->questions[i].answer = DNS_ANSWER_INIT;
    (void)snprintf(p->peer, sizeof(p->peer), "%s", peer->address);
    (void)snprintf(p->local, sizeof(p->local), "%s", peer->local);
    if (wants_name(p->conf))
        ask_about_address(p, POLICY_PTR, DNS_PTR, p->address_len == 4 ? STR("in-addr.arpa") : STR("ip6.arpa"));
    for (size_t i = 0; i < p->list_count; i++)
        ask_about_address(p, POLICY_LIST + i, DNS_A, p->lists[i].zone);
}

bool policy_is_active(const struct policy *p)
{
    return p->questions != NULL;
}

/* ---- the name of the address ---- */

static bool leads_back(const struct policy *p, const struct dns_answer *a)
{
    for (size_t i = 0; i < a->count; i++)
        if (a->records[i].data.len == p->address_len && memcmp(a->records[i].data.ptr, p->address, p->address_len) == 0)
            return true;
    return false;
}

/* RFC 1912 2.1: a name is the address's only if it has this address. */
static void find_name(struct policy *p)
{
    const struct dns_answer *ptr = &p->questions[POLICY_PTR].answer;
    size_t count;

    if (p->is_name_known || !wants_name(p->conf))
        return;
    p->is_name_known = true;
    dns_wait_first(&p->dns, p->questions, POLICY_SLOTS, POLICY_PTR + 1);
    count = ptr->count < POLICY_NAMES ? ptr->count : POLICY_NAMES;
    for (size_t i = 0; i < count; i++)
        ask(p, POLICY_FORWARD + i, p->address_len == 4 ? DNS_A : DNS_AAAA, ptr->records[i].data);
    dns_wait_first(&p->dns, p->questions, POLICY_SLOTS, POLICY_FORWARD + count);
    for (size_t i = 0; i < count && p->name[0] == '\0'; i++)
        if (leads_back(p, &p->questions[POLICY_FORWARD + i].answer))
            (void)snprintf(p->name, sizeof(p->name), "%s", p->questions[POLICY_FORWARD + i].name);
}

const char *policy_hello(struct policy *p, struct str name)
{
    size_t len = name.len < sizeof(p->helo) ? name.len : sizeof(p->helo) - 1;

    if (!policy_is_active(p))
        return "";
    if (len > 0)
        memcpy(p->helo, name.ptr, len);
    p->helo[len] = '\0';
    p->is_settled = false;
    if (has_word(p->conf->helo_checks, "dns") && p->helo[0] != '[') {
        ask(p, POLICY_HELO, DNS_A, str_from(p->helo));
        ask(p, POLICY_HELO + 1, DNS_AAAA, str_from(p->helo));
        ask(p, POLICY_HELO + 2, DNS_MX, str_from(p->helo));
    }
    find_name(p);
    return p->name;
}

/* ---- the checks: each is passed, or refuses with an answer ---- */

struct finding {
    struct smtp_answer answer;
    const char *check;
    char detail[LIMIT_NOTE];
};

static bool is_forward_unsure(const struct policy *p)
{
    for (size_t i = 0; i < POLICY_NAMES; i++)
        if (p->questions[POLICY_FORWARD + i].type != 0 && p->questions[POLICY_FORWARD + i].answer.status == DNS_FAILED)
            return true;
    return false;
}

/* RFC 7372 3.3, RFC 8601 2.7.3. */
static bool check_reverse_dns(struct policy *p, struct finding *f)
{
    const struct dns_question *ptr = &p->questions[POLICY_PTR];
    bool needs_match = has_word(p->conf->reverse_dns, "match");

    if (!needs_match && !has_word(p->conf->reverse_dns, "name"))
        return true;
    find_name(p);
    if (p->name[0] || (!needs_match && ptr->answer.count > 0))
        return true;
    if (ptr->answer.status == DNS_FAILED || is_forward_unsure(p))
        answer_set(&f->answer, 450, "4.7.25", "The name of your address [%s] cannot be found now, try again later",
                   p->peer);
    else if (ptr->answer.count == 0)
        answer_set(&f->answer, 550, "5.7.25", "Your address [%s] has no name", p->peer);
    else
        answer_set(&f->answer, 550, "5.7.25", "No name of your address [%s] leads back to it", p->peer);
    return false;
}

static bool is_literal_of(struct str literal, const char *address)
{
    struct str inside = str_sub(literal, 1, literal.len > 1 ? literal.len - 2 : 0);
    uint8_t said[16], real[16];
    size_t said_len = 0, real_len = 0;

    if (str_istarts(inside, STR("IPv6:")))
        inside = str_sub(inside, 5, inside.len);
    return dns_address_parse(inside, said, &said_len) == 0 &&
           dns_address_parse(str_from(address), real, &real_len) == 0 && said_len == real_len &&
           memcmp(said, real, said_len) == 0;
}

/* Who says that it is us, and is not on this machine, lies. */
static bool check_helo_own(struct policy *p, struct finding *f)
{
    struct str helo = dns_name_trim(str_from(p->helo));
    bool is_ours =
        helo.len > 0 && helo.ptr[0] == '[' ? is_literal_of(helo, p->local) : conf_domain_is_ours(p->conf, helo);

    if (!has_word(p->conf->helo_checks, "own") || !is_ours)
        return true;
    answer_set(&f->answer, 550, "5.7.1", "You are not %s", p->helo);
    return false;
}

/* RFC 5321 4.1.1.1: a fully-qualified domain name, or an address literal. */
static bool check_helo_fqdn(struct policy *p, struct finding *f)
{
    struct str helo = dns_name_trim(str_from(p->helo));

    if (!has_word(p->conf->helo_checks, "fqdn") || str_chr(helo, '[') == 0 ||
        (str_chr(helo, '.') > 0 && dns_name_is_host(helo) && !ascii_is_digit(helo.ptr[helo.len - 1])))
        return true;
    answer_set(&f->answer, 550, "5.5.2", "%s is not a fully-qualified name", p->helo);
    return false;
}

/* RFC 5321 4.1.3: a literal is the sender's own address. Behind address translation it may be another one. */
static bool check_helo_literal(struct policy *p, struct finding *f)
{
    if (!has_word(p->conf->helo_checks, "literal") || p->helo[0] != '[' || is_literal_of(str_from(p->helo), p->peer))
        return true;
    answer_set(&f->answer, 550, "5.7.1", "%s is not your address", p->helo);
    return false;
}

/* RFC 5321 2.3.5: the name must be one that DNS knows. */
static bool check_helo_dns(struct policy *p, struct finding *f)
{
    bool is_unsure = false;

    if (!has_word(p->conf->helo_checks, "dns") || p->helo[0] == '[')
        return true;
    for (size_t i = 0; i < 3; i++) {
        const struct dns_question *q = &p->questions[POLICY_HELO + i];

        if (q->answer.status == DNS_OK)
            return true;
        is_unsure |= q->name[0] && q->answer.status == DNS_FAILED;
    }
    if (is_unsure)
        answer_set(&f->answer, 450, "4.4.3", "%s cannot be found now, try again later", p->helo);
    else
        answer_set(&f->answer, 550, "5.7.1", "There is no host %s", p->helo);
    return false;
}

/* What the list says about it (RFC 5782 2.1): shown to the sender, so only what can be printed. */
static void add_reason(struct policy *p, const struct policy_list *list, struct finding *f)
{
    const struct dns_question *q = &p->questions[POLICY_REASON];
    struct str text = STR("");

    ask_about_address(p, POLICY_REASON, DNS_TXT, list->zone);
    dns_wait(&p->dns, p->questions, POLICY_SLOTS);
    if (q->answer.count > 0)
        text = str_sub(q->answer.records[0].data, 0, 200);
    answer_set(&f->answer, 554, "5.7.1", "Your address [%s] is listed by %.*s%s%.*s", p->peer, STR_ARG(list->zone),
               text.len > 0 ? ": " : "", STR_ARG(text));
    (void)snprintf(f->detail, sizeof(f->detail), "%.*s", STR_ARG(list->zone));
}

/* RFC 5782. A list that cannot be asked lists nobody. */
static bool check_dnsbl(struct policy *p, struct finding *f)
{
    const struct policy_list *listed = NULL;
    uint64_t sum = 0;

    for (size_t i = 0; i < p->list_count; i++) {
        const struct dns_answer *a = &p->questions[POLICY_LIST + i].answer;
        bool counts = false;

        for (size_t j = 0; j < a->count; j++)
            counts |= policy_list_matches(&p->lists[i], (const uint8_t *)a->records[j].data.ptr);
        if (counts) {
            sum += p->lists[i].weight;
            listed = listed ? listed : &p->lists[i];
        } else if (a->status == DNS_FAILED) {
            LOG_EVENT(LOG_NOTICE, "dnsbl-unavailable", LOG_F("zone", p->lists[i].zone), LOG_F("reason", a->reason));
        }
    }
    if (!listed || sum < (p->conf->dnsbl_threshold > 0 ? p->conf->dnsbl_threshold : 1))
        return true;
    add_reason(p, listed, f);
    return false;
}

static const struct {
    const char *name;
    bool (*run)(struct policy *p, struct finding *f);
} CHECKS[] = {
    {"helo_own", check_helo_own}, {"helo_fqdn", check_helo_fqdn},     {"helo_literal", check_helo_literal},
    {"helo_dns", check_helo_dns}, {"reverse_dns", check_reverse_dns}, {"dnsbl", check_dnsbl},
};

static void settle(struct policy *p)
{
    struct finding f = {0};

    dns_wait(&p->dns, p->questions, POLICY_SLOTS);
    p->is_settled = true;
    p->verdict = (struct smtp_answer){.code = 250};
    for (size_t i = 0; i < sizeof(CHECKS) / sizeof(CHECKS[0]); i++) {
        if (CHECKS[i].run(p, &f))
            continue;
        p->verdict = f.answer;
        LOG_EVENT(LOG_INFO, "policy-refused", LOG_FC("check", CHECKS[i].name), LOG_FC("host", p->peer),
                  LOG_FC("client", p->name), LOG_FC("helo", p->helo), LOG_FC("zone", f.detail),
                  LOG_FC("reply", f.answer.enhanced));
        return;
    }
}

/* RFC 5321 4.5.1, RFC 2142 4: whoever is refused can ask why. */
static bool is_always_reachable(struct str mailbox)
{
    struct str local;

    (void)str_cut(&mailbox, '@', &local);
    return str_ieq(local, STR("postmaster")) || str_ieq(local, STR("abuse"));
}

/* ---- the sender ---- */

/* RFC 5321 3.6.2 asks for a return path that works; RFC 7505 4.1 says how to refuse one that cannot. */
static void judge_sender(struct policy *p)
{
    const struct dns_answer *mx = &p->questions[POLICY_SENDER].answer;
    const struct dns_answer *four = &p->questions[POLICY_SENDER + 1].answer;
    const struct dns_answer *six = &p->questions[POLICY_SENDER + 2].answer;
    struct smtp_answer *ret = &p->sender_verdict;

    *ret = (struct smtp_answer){.code = 250};
    if (mx->count == 1 && mx->records[0].data.len == 0)
        answer_set(ret, 550, "5.7.27", "%s takes no mail, so no answer could reach the sender", p->sender_domain);
    else if (mx->count > 0 || four->count > 0 || six->count > 0)
        return;
    else if (mx->status == DNS_FAILED || four->status == DNS_FAILED || six->status == DNS_FAILED)
        answer_set(ret, 451, "4.4.3", "The sender's domain %s cannot be found now, try again later", p->sender_domain);
    else
        answer_set(ret, 550, "5.1.8", "The sender's domain %s has neither a mail host nor an address",
                   p->sender_domain);
    LOG_EVENT(LOG_INFO, "policy-refused", LOG_FC("check", "sender_dns"), LOG_FC("host", p->peer),
              LOG_FC("domain", p->sender_domain), LOG_FC("reply", ret->enhanced));
}

static const struct smtp_answer *check_sender(struct policy *p, struct str sender)
{
    static const struct smtp_answer fine = {.code = 250};
    static const enum dns_type types[] = {DNS_MX, DNS_A, DNS_AAAA};
    _cleanup_buf_ struct buf domain = BUF_INIT(4 * LIMIT_DOMAIN);
    struct str rest = sender;

    for (ptrdiff_t at; (at = str_chr(rest, '@')) >= 0;)
        rest = str_sub(rest, (size_t)at + 1, rest.len);
    /* The null path is a report; literals are not in the DNS; our own domains are not asked for. */
    if (!p->conf->sender_dns || rest.len == 0 || rest.len == sender.len || rest.ptr[0] == '[' ||
        conf_domain_is_ours(p->conf, rest) || idna_to_ascii(rest, &domain) < 0)
        return &fine;
    if (strcmp(buf_cstr(&domain), p->sender_domain) == 0)
        return &p->sender_verdict;
    (void)snprintf(p->sender_domain, sizeof(p->sender_domain), "%s", buf_cstr(&domain));
    for (size_t i = 0; i < 3; i++)
        ask(p, POLICY_SENDER + i, types[i], buf_str(&domain));
    dns_wait(&p->dns, p->questions, POLICY_SLOTS);
    judge_sender(p);
    return &p->sender_verdict;
}

bool policy_admits(struct policy *p, struct str sender, struct str mailbox, struct smtp_answer *ret)
{
    const struct smtp_answer *verdict = NULL;

    if (!policy_is_active(p) || is_always_reachable(mailbox))
        return true;
    if (!p->is_settled)
        settle(p);
    verdict = answer_is_ok(&p->verdict) ? check_sender(p, sender) : &p->verdict;
    if (answer_is_ok(verdict))
        return true;
    LOG_EVENT(LOG_INFO, "refused", LOG_FC("host", p->peer), LOG_F("from", sender), LOG_F("to", mailbox),
              LOG_FC("reply", verdict->enhanced));
    *ret = *verdict;
    return false;
}
