/*
 * MAIL and RCPT parameters. Runs in smtp-session; pure.
 */
#include "handlers/smtp/param.h"

#include <errno.h>
#include <string.h>

#include "shared/base/clock.h"
#include "shared/base/limits.h"
#include "shared/queue/xtext.h"
#include "shared/route/path.h"

#define PARAMS_MAX 32 /* on one command; there are fewer keywords */

struct param {
    const char *name;
    unsigned offer;
    bool needs_value; /* otherwise it must have none */
    int (*parse)(struct str value, void *params);
};

static int mail_size(struct str value, void *params)
{
    struct mail_params *p = params;

    /* RFC 1870 3: up to 20 digits; what does not fit is larger than anything we take. */
    if (value.len > 20)
        return -EINVAL;
    for (size_t i = 0; i < value.len; i++)
        if (!ascii_is_digit(value.ptr[i]))
            return -EINVAL;
    if (str_to_u64(value, &p->size) < 0)
        p->size = UINT64_MAX;
    return 0;
}

static int mail_body(struct str value, void *params)
{
    struct mail_params *p = params;

    if (str_ieq(value, STR("7BIT")))
        p->body = QUEUE_BODY_7BIT;
    else if (str_ieq(value, STR("8BITMIME")))
        p->body = QUEUE_BODY_8BITMIME;
    else if (str_ieq(value, STR("BINARYMIME")))
        p->body = QUEUE_BODY_BINARYMIME;
    else
        return -EINVAL;
    return 0;
}

static int mail_utf8(struct str value, void *params)
{
    ((struct mail_params *)params)->is_utf8 = true;
    return 0;
}

static int mail_ret(struct str value, void *params)
{
    struct mail_params *p = params;

    if (str_ieq(value, STR("FULL")))
        p->ret = QUEUE_RET_FULL;
    else if (str_ieq(value, STR("HDRS")))
        p->ret = QUEUE_RET_HDRS;
    else
        return -EINVAL;
    return 0;
}

static int mail_envid(struct str value, void *params)
{
    if (value.len > ENVID_MAX || !xtext_is_valid(value))
        return -EINVAL;
    ((struct mail_params *)params)->envid = value;
    return 0;
}

static int mail_requiretls(struct str value, void *params)
{
    ((struct mail_params *)params)->requires_tls = true;
    return 0;
}

/* A number of at most `digits` digits, with a sign in front if `is_signed`. */
static int take_number(struct str value, size_t digits, bool is_signed, int64_t *ret)
{
    bool is_negative = is_signed && str_starts(value, STR("-"));
    uint32_t n;

    if (is_negative || (is_signed && str_starts(value, STR("+"))))
        value = str_sub(value, 1, value.len);
    if (value.len > digits || str_to_u32(value, &n) < 0)
        return -EINVAL;
    *ret = is_negative ? -(int64_t)n : (int64_t)n;
    return 0;
}

/* RFC 6710 4.1: -9 to 9, no plus sign. */
static int mail_priority(struct str value, void *params)
{
    int64_t n = 0;

    if (str_starts(value, STR("+")) || take_number(value, 1, true, &n) < 0)
        return -EINVAL;
    ((struct mail_params *)params)->priority = (int32_t)n;
    return 0;
}

/* RFC 2852 4: by-time ";" by-mode [by-trace] */
static int mail_by(struct str value, void *params)
{
    struct mail_params *p = params;
    struct str seconds;

    if (!str_cut(&value, ';', &seconds) || take_number(seconds, 9, true, &p->by_seconds) < 0)
        return -EINVAL;
    if (value.len == 2 && ascii_upper(value.ptr[1]) == 'T')
        p->by_trace = true;
    else if (value.len != 1)
        return -EINVAL;
    p->by = ascii_upper(value.ptr[0]) == 'R' ? QUEUE_BY_RETURN : QUEUE_BY_NOTIFY;
    if (p->by == QUEUE_BY_NOTIFY && ascii_upper(value.ptr[0]) != 'N')
        return -EINVAL;
    return p->by == QUEUE_BY_RETURN && p->by_seconds <= 0 ? -EINVAL : 0;
}

/* RFC 4865 4: one of the two, and not longer than we said; a date is compared by who has the clock. */
static int mail_holdfor(struct str value, void *params)
{
    struct mail_params *p = params;

    if (p->hold_until > 0 || take_number(value, 9, false, &p->hold_for) < 0)
        return -EINVAL;
    return p->hold_for == 0 || p->hold_for > HOLD_MAX ? -EINVAL : 0;
}

static int mail_holduntil(struct str value, void *params)
{
    struct mail_params *p = params;

    return p->hold_for > 0 || clock_parse_rfc3339(value, &p->hold_until) < 0 || p->hold_until <= 0 ? -EINVAL : 0;
}

/* RFC 4954 5: who sent it first, in a trusted chain. We trust nobody's word for it: checked and dropped, as allowed. */
static int mail_auth(struct str value, void *params)
{
    return xtext_is_valid(value) ? 0 : -EINVAL;
}

/* RFC 3461 4.1: NEVER stands alone. */
static bool is_notify(unsigned bits)
{
    const unsigned all = QUEUE_NOTIFY_NEVER | QUEUE_NOTIFY_SUCCESS | QUEUE_NOTIFY_FAILURE | QUEUE_NOTIFY_DELAY;

    return (bits & ~all) == 0 && (!(bits & QUEUE_NOTIFY_NEVER) || bits == QUEUE_NOTIFY_NEVER);
}

static int rcpt_notify(struct str value, void *params)
{
    static const struct {
        struct str name;
        unsigned bit;
    } words[] = {{{"NEVER", 5}, QUEUE_NOTIFY_NEVER},
                 {{"SUCCESS", 7}, QUEUE_NOTIFY_SUCCESS},
                 {{"FAILURE", 7}, QUEUE_NOTIFY_FAILURE},
                 {{"DELAY", 5}, QUEUE_NOTIFY_DELAY}};
    struct rcpt_params *p = params;
    struct str word;
    bool more = true;

    while (more) {
        unsigned bit = 0;

        more = str_cut(&value, ',', &word);
        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
            if (str_ieq(word, words[i].name))
                bit = words[i].bit;
        if (bit == 0 || p->notify & bit)
            return -EINVAL;
        p->notify |= bit;
    }
    return is_notify(p->notify) ? 0 : -EINVAL;
}

/* RFC 6533 3: it is kept in ASCII, which is longer. */
static bool utf8_xtext_fits(struct str s)
{
    _cleanup_buf_ struct buf ascii = BUF_INIT(ORCPT_MAX - 6);

    return utf8_xtext_encode(s, &ascii) == 0;
}

static bool is_orcpt(struct str value)
{
    struct str type, rest = value;

    if (value.len > ORCPT_MAX || !str_cut(&rest, ';', &type) || type.len == 0 || rest.len == 0)
        return false;
    if (str_ieq(type, STR("utf-8")) ? !utf8_xtext_fits(rest) : !xtext_is_valid(rest))
        return false;
    for (size_t i = 0; i < type.len; i++)
        if (!ascii_is_alpha(type.ptr[i]) && !ascii_is_digit(type.ptr[i]) && type.ptr[i] != '-')
            return false;
    return true;
}

static int rcpt_orcpt(struct str value, void *params)
{
    if (!is_orcpt(value))
        return -EINVAL;
    ((struct rcpt_params *)params)->orcpt = value;
    return 0;
}

static const struct param MAIL_PARAMS[] = {
    {"SIZE", OFFER_SIZE, true, mail_size},                    /* RFC 1870 */
    {"BODY", OFFER_8BITMIME, true, mail_body},                /* RFC 6152 */
    {"SMTPUTF8", OFFER_SMTPUTF8, false, mail_utf8},           /* RFC 6531 */
    {"RET", OFFER_DSN, true, mail_ret},                       /* RFC 3461 4.3 */
    {"ENVID", OFFER_DSN, true, mail_envid},                   /* RFC 3461 4.4 */
    {"AUTH", OFFER_AUTH, true, mail_auth},                    /* RFC 4954 5 */
    {"REQUIRETLS", OFFER_REQUIRETLS, false, mail_requiretls}, /* RFC 8689 2 */
    {"MT-PRIORITY", OFFER_MT_PRIORITY, true, mail_priority},  /* RFC 6710 4.1 */
    {"BY", OFFER_DELIVERBY, true, mail_by},                   /* RFC 2852 4 */
    {"HOLDFOR", OFFER_FUTURERELEASE, true, mail_holdfor},     /* RFC 4865 4 */
    {"HOLDUNTIL", OFFER_FUTURERELEASE, true, mail_holduntil},
};

static const struct param RCPT_PARAMS[] = {
    {"NOTIFY", OFFER_DSN, true, rcpt_notify}, /* RFC 3461 4.1 */
    {"ORCPT", OFFER_DSN, true, rcpt_orcpt},   /* RFC 3461 4.2 */
};

/* esmtp-keyword and esmtp-value (RFC 5321 4.1.2). */
static bool is_keyword(struct str s)
{
    if (s.len == 0 || s.ptr[0] == '-')
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!ascii_is_alpha(s.ptr[i]) && !ascii_is_digit(s.ptr[i]) && s.ptr[i] != '-')
            return false;
    return true;
}

/* Of all values only an ORCPT may be UTF-8 (RFC 6533 3). */
static bool is_value(struct str name, struct str s)
{
    if (s.len == 0)
        return false;
    if (str_ieq(name, STR("ORCPT")) && !str_is_ascii(s))
        return utf8_valid(s);
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] < 33 || s.ptr[i] > 126 || s.ptr[i] == '=')
            return false;
    return true;
}

static int parse_one(struct str word, const struct param *table, size_t count, unsigned offers, unsigned *seen,
                     void *params, struct smtp_answer *answer)
{
    struct str name;
    bool has_value = str_cut(&word, '=', &name);

    if (!is_keyword(name) || (has_value && !is_value(name, word))) {
        answer_set(answer, 501, "5.5.4", "That is not a parameter");
        return -EINVAL;
    }
    for (size_t i = 0; i < count; i++) {
        if (!str_ieq(name, str_from(table[i].name)) || !(offers & table[i].offer))
            continue;
        if (*seen & (1u << i) || has_value != table[i].needs_value || table[i].parse(word, params) < 0) {
            answer_set(answer, 501, "5.5.4", "Bad or repeated parameter %s", table[i].name);
            return -EINVAL;
        }
        *seen |= 1u << i;
        return 0;
    }
    answer_set(answer, 555, "5.5.4", "Parameter %.*s is not known here", STR_ARG(str_sub(name, 0, 40)));
    return -EINVAL;
}

static int parse_all(struct str s, const struct param *table, size_t count, unsigned offers, void *params,
                     struct smtp_answer *answer)
{
    unsigned seen = 0;
    struct str word;

    if (s.len > 0 && s.ptr[0] != ' ' && s.ptr[0] != '\t') {
        answer_set(answer, 501, "5.5.4", "A blank must stand between the path and its parameters");
        return -EINVAL;
    }
    for (int i = 0; str_word(&s, &word); i++) {
        if (i == PARAMS_MAX) {
            answer_set(answer, 501, "5.5.4", "Too many parameters");
            return -EINVAL;
        }
        if (parse_one(word, table, count, offers, &seen, params, answer) < 0)
            return -EINVAL;
    }
    return 0;
}

int param_parse_mail(struct str s, unsigned offers, struct mail_params *ret, struct smtp_answer *ret_answer)
{
    struct mail_params p = {0};
    int e = parse_all(s, MAIL_PARAMS, ARRAY_SIZE(MAIL_PARAMS), offers, &p, ret_answer);

    if (e == 0 && p.body == QUEUE_BODY_BINARYMIME && !(offers & OFFER_BINARYMIME)) {
        answer_set(ret_answer, 501, "5.5.4", "Bad or repeated parameter BODY");
        e = -EINVAL;
    }
    if (e == 0)
        *ret = p;
    return e;
}

int param_parse_rcpt(struct str s, unsigned offers, struct rcpt_params *ret, struct smtp_answer *ret_answer)
{
    struct rcpt_params p = {0};
    int e = parse_all(s, RCPT_PARAMS, ARRAY_SIZE(RCPT_PARAMS), offers, &p, ret_answer);

    if (e == 0)
        *ret = p;
    return e;
}

bool param_mail_is_valid(const struct mail_params *p)
{
    return p->body <= QUEUE_BODY_BINARYMIME && p->ret <= QUEUE_RET_HDRS && p->envid.len <= ENVID_MAX &&
           xtext_is_valid(p->envid) && p->priority >= -PRIORITY_MAX && p->priority <= PRIORITY_MAX &&
           p->by <= QUEUE_BY_NOTIFY && p->by_seconds >= -BY_MAX && p->by_seconds <= BY_MAX &&
           (p->by != QUEUE_BY_RETURN || p->by_seconds > 0) && p->hold_for >= 0 && p->hold_for <= HOLD_MAX &&
           p->hold_until >= 0 && (p->hold_for == 0 || p->hold_until == 0);
}

bool param_rcpt_is_valid(const struct rcpt_params *p)
{
    return is_notify(p->notify) && (p->orcpt.len == 0 || is_orcpt(p->orcpt));
}
