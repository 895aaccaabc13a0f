/*
 * The frames between relay and relay-session. Runs on both sides; pure.
 */
#include "handlers/relay/talk.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SECRET_MAX  LIMIT_SASL /* OAuth tokens are long */
#define PERCENT_MAX 1000
#define ORCPT_MAX   512 /* RFC 3461 4.2: 500 characters */
#define ENVID_MAX   100 /* RFC 3461 4.4 */

/* ---- checks ---- */

/* No blanks and no control characters: nothing that could end a command or become another parameter. */
static bool is_word(struct str s, bool is_utf8)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] <= 32 || s.ptr[i] == 127 || (!is_utf8 && (unsigned char)s.ptr[i] > 127))
            return false;
    return !is_utf8 || utf8_valid(s);
}

/* A mailbox: blanks are possible in a quoted local part; brackets would end the path, and only quoted ones do not. */
static bool is_address(struct str s, bool is_utf8)
{
    bool is_quoted = false;

    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];

        if (c < 32 || c == 127 || (!is_utf8 && c > 127))
            return false;
        if (c == '"')
            is_quoted = !is_quoted;
        else if (c == '\\' && is_quoted)
            i++;
        else if (!is_quoted && (c == ' ' || c == '<' || c == '>'))
            return false;
        if (i >= s.len || (unsigned char)s.ptr[i] < 32)
            return false;
    }
    return !is_quoted && (!is_utf8 || utf8_valid(s));
}

static bool is_printable(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] < 32 || (unsigned char)s.ptr[i] > 126)
            return false;
    return true;
}

/* ---- replies ---- */

static void clean(char *text)
{
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 32 || (unsigned char)*c > 126)
            *c = '?';
}

void talk_reply_set(struct talk_reply *r, enum talk_phase phase, unsigned code, const char *enhanced,
                    const char *format, ...)
{
    va_list ap;

    *r = (struct talk_reply){.code = code, .phase = phase, .is_ours = true};
    (void)snprintf(r->enhanced, sizeof(r->enhanced), "%s", enhanced);
    va_start(ap, format);
    (void)vsnprintf(r->text, sizeof(r->text), format, ap);
    va_end(ap);
    clean(r->text);
}

int talk_put_reply(struct frame *f, const struct talk_reply *r)
{
    int e = frame_put_u32(f, r->code);

    if (e == 0)
        e = frame_put_str(f, str_from(r->enhanced));
    if (e == 0)
        e = frame_put_str(f, str_from(r->text));
    if (e == 0)
        e = frame_put_u32(f, r->phase);
    return e < 0 ? e : frame_put_u32(f, r->is_ours);
}

/* class "." subject "." detail (RFC 3463 2) of the reply's own class. */
static bool is_enhanced(struct str s, unsigned code)
{
    struct str part;
    uint32_t n;

    if (!str_cut(&s, '.', &part) || part.len != 1 || (unsigned)(part.ptr[0] - '0') != code / 100)
        return false;
    if (!str_cut(&s, '.', &part) || part.len > 3 || str_to_u32(part, &n) < 0)
        return false;
    return s.len <= 3 && str_to_u32(s, &n) == 0;
}

int talk_get_reply(struct frame_reader *in, struct talk_reply *ret)
{
    struct str enhanced, text;
    uint32_t code, phase, is_ours;

    if (frame_get_u32(in, &code) < 0 || frame_get_str(in, sizeof(ret->enhanced) - 1, &enhanced) < 0 ||
        frame_get_str(in, TALK_TEXT - 1, &text) < 0 || frame_get_u32(in, &phase) < 0 || frame_get_u32(in, &is_ours) < 0)
        return -EBADMSG;
    if (code < 200 || code > 599 || code / 100 == 3 || !is_enhanced(enhanced, code) || !is_printable(text) ||
        phase >= TALK_PHASES || is_ours > 1)
        return -EBADMSG;
    *ret = (struct talk_reply){.code = code, .phase = (enum talk_phase)phase, .is_ours = is_ours != 0};
    memcpy(ret->enhanced, enhanced.ptr, enhanced.len);
    memcpy(ret->text, text.ptr, text.len);
    return 0;
}

/* ---- the next hop ---- */

static int put_tlsa(struct frame *f, const struct talk_tlsa *t)
{
    int e = frame_put_u32(f, t->usage);

    if (e == 0)
        e = frame_put_u32(f, t->selector);
    if (e == 0)
        e = frame_put_u32(f, t->matching);
    return e < 0 ? e : frame_put_str(f, t->data);
}

int talk_put_host(struct frame *f, const struct talk_host *h)
{
    const struct str texts[] = {h->names, h->user, h->secret};
    int e;

    frame_begin(f, FRAME_RELAY_HOST);
    e = frame_put_str(f, h->name);
    if (e == 0)
        e = frame_put_str(f, h->helo);
    if (e == 0)
        e = frame_put_u32(f, h->tls);
    if (e == 0)
        e = frame_put_u32(f, h->is_implicit);
    if (e == 0)
        e = frame_put_u32(f, h->percent);
    for (size_t i = 0; i < ARRAY_SIZE(texts) && e == 0; i++)
        e = frame_put_str(f, texts[i]);
    if (e == 0)
        e = frame_put_u32(f, h->login);
    if (e == 0)
        e = frame_put_u32(f, h->tlsa_count);
    for (uint32_t i = 0; i < h->tlsa_count && e == 0; i++)
        e = put_tlsa(f, &h->tlsa[i]);
    return e;
}

static int get_tlsa(struct frame_reader *in, struct talk_tlsa *ret)
{
    uint32_t usage, selector, matching;

    if (frame_get_u32(in, &usage) < 0 || frame_get_u32(in, &selector) < 0 || frame_get_u32(in, &matching) < 0 ||
        frame_get_str(in, TALK_TLSA_MAX, &ret->data) < 0)
        return -EBADMSG;
    if (usage > UINT8_MAX || selector > UINT8_MAX || matching > UINT8_MAX)
        return -EBADMSG;
    ret->usage = (uint8_t)usage;
    ret->selector = (uint8_t)selector;
    ret->matching = (uint8_t)matching;
    return 0;
}

int talk_get_host(struct frame_reader *in, struct talk_host *ret)
{
    struct talk_host h = {0};
    uint32_t tls, implicit, login;

    if (frame_get_str(in, LIMIT_DOMAIN, &h.name) < 0 || frame_get_str(in, LIMIT_DOMAIN, &h.helo) < 0 ||
        frame_get_u32(in, &tls) < 0 || frame_get_u32(in, &implicit) < 0 || frame_get_u32(in, &h.percent) < 0 ||
        frame_get_str(in, TALK_NAMES * (LIMIT_DOMAIN + 1), &h.names) < 0 ||
        frame_get_str(in, LIMIT_SASL, &h.user) < 0 || frame_get_str(in, SECRET_MAX, &h.secret) < 0 ||
        frame_get_u32(in, &login) < 0 || frame_get_u32(in, &h.tlsa_count) < 0)
        return -EBADMSG;
    if (tls > TALK_TLS_DANE || implicit > 1 || h.percent == 0 || h.percent > PERCENT_MAX || login > TALK_LOGIN_TOKEN ||
        h.tlsa_count > TALK_TLSA || !is_word(h.helo, false) || !is_word(h.name, false) || !is_printable(h.names))
        return -EBADMSG;
    for (uint32_t i = 0; i < h.tlsa_count; i++)
        if (get_tlsa(in, &h.tlsa[i]) < 0)
            return -EBADMSG;
    h.tls = (enum talk_tls)tls;
    h.is_implicit = implicit != 0;
    h.login = (enum talk_login)login;
    *ret = h;
    return frame_end(in);
}

int talk_put_ready(struct frame *f, const struct talk_ready *r)
{
    int e = frame_put_u32(f, r->status);

    if (e == 0)
        e = talk_put_reply(f, &r->reply);
    if (e == 0)
        e = frame_put_str(f, str_from(r->tls));
    if (e == 0)
        e = frame_put_u32(f, r->is_verified);
    if (e == 0)
        e = frame_put_u32(f, r->extensions);
    return e < 0 ? e : frame_put_u64(f, r->size);
}

int talk_get_ready(struct frame_reader *in, struct talk_ready *ret)
{
    struct talk_ready r = {0};
    struct str tls;
    uint32_t status, verified;

    if (frame_get_u32(in, &status) < 0 || talk_get_reply(in, &r.reply) < 0 ||
        frame_get_str(in, sizeof(r.tls) - 1, &tls) < 0 || frame_get_u32(in, &verified) < 0 ||
        frame_get_u32(in, &r.extensions) < 0 || frame_get_u64(in, &r.size) < 0 || frame_end(in) < 0)
        return -EBADMSG;
    if (status > TALK_NO_LOGIN || verified > 1 || !is_printable(tls))
        return -EBADMSG;
    r.status = (enum talk_status)status;
    r.is_verified = verified != 0;
    memcpy(r.tls, tls.ptr, tls.len);
    *ret = r;
    return 0;
}

/* ---- a message ---- */

int talk_put_mail(struct frame *f, const struct talk_mail *m)
{
    int e;

    frame_begin(f, FRAME_RELAY_MAIL);
    e = frame_put_str(f, m->sender);
    if (e == 0)
        e = frame_put_u32(f, m->body);
    if (e == 0)
        e = frame_put_u32(f, m->is_utf8);
    if (e == 0)
        e = frame_put_u32(f, m->is_requiretls);
    if (e == 0)
        e = frame_put_u32(f, m->is_report);
    if (e == 0)
        e = frame_put_str(f, m->envid);
    if (e == 0)
        e = frame_put_u32(f, m->ret);
    if (e == 0)
        e = frame_put_u32(f, m->by);
    if (e == 0)
        e = frame_put_u32(f, m->by_trace);
    if (e == 0)
        e = frame_put_u64(f, (uint64_t)m->by_seconds);
    return e < 0 ? e : frame_put_u32(f, m->count);
}

int talk_get_mail(struct frame_reader *in, struct talk_mail *ret)
{
    struct talk_mail m;
    uint32_t body, utf8, requiretls, report, kind, by, trace;
    uint64_t seconds;

    if (frame_get_str(in, LIMIT_PATH, &m.sender) < 0 || frame_get_u32(in, &body) < 0 || frame_get_u32(in, &utf8) < 0 ||
        frame_get_u32(in, &requiretls) < 0 || frame_get_u32(in, &report) < 0 ||
        frame_get_str(in, ENVID_MAX, &m.envid) < 0 || frame_get_u32(in, &kind) < 0 || frame_get_u32(in, &by) < 0 ||
        frame_get_u32(in, &trace) < 0 || frame_get_u64(in, &seconds) < 0 || frame_get_u32(in, &m.count) < 0 ||
        frame_end(in) < 0)
        return -EBADMSG;
    m.by_seconds = (int64_t)seconds;
    if (by > TALK_BY_NOTIFY || trace > 1 || m.by_seconds > TALK_BY_MAX || m.by_seconds < -TALK_BY_MAX)
        return -EBADMSG;
    if (body > TALK_BODY_BINARY || utf8 > 1 || requiretls > 1 || report > 1 || kind > TALK_RET_HDRS || m.count == 0 ||
        m.count > LIMIT_RECIPIENTS || !is_word(m.envid, false) || !is_address(m.sender, utf8 != 0))
        return -EBADMSG;
    m.body = (enum talk_body)body;
    m.is_utf8 = utf8 != 0;
    m.is_requiretls = requiretls != 0;
    m.is_report = report != 0;
    m.ret = (enum talk_ret)kind;
    m.by = (enum talk_by)by;
    m.by_trace = trace != 0;
    *ret = m;
    return 0;
}

int talk_put_rcpt(struct frame *f, const struct talk_rcpt *r)
{
    int e = frame_put_str(f, r->address);

    if (e == 0)
        e = frame_put_u32(f, r->notify);
    return e < 0 ? e : frame_put_str(f, r->orcpt);
}

int talk_get_rcpt(struct frame_reader *in, bool is_utf8, struct talk_rcpt *ret)
{
    struct talk_rcpt r;

    if (frame_get_str(in, LIMIT_PATH, &r.address) < 0 || frame_get_u32(in, &r.notify) < 0 ||
        frame_get_str(in, ORCPT_MAX, &r.orcpt) < 0)
        return -EBADMSG;
    if (r.address.len == 0 || r.notify > 15 || !is_address(r.address, is_utf8) || !is_word(r.orcpt, is_utf8))
        return -EBADMSG;
    *ret = r;
    return 0;
}
