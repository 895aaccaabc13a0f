/*
 * HELO, EHLO, LHLO, and what is offered. Their replies carry no enhanced code, refusals neither (RFC 2034 3). Part of
 * smtp-session.
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "handlers/smtp/session.h"
#include "shared/route/path.h"

/* What the client calls itself matters where policy is made. A name that XCLIENT gave stays. */
static bool tell_backend(struct smtp_session *s, struct str name)
{
    char verified[LIMIT_DOMAIN + 1] = "";
    int e = s->wants_hello ? s->backend.hello(s->backend.context, name, verified) : 0;

    if (e < 0)
        session_fail(s, e);
    else if (verified[0])
        (void)snprintf(s->name, sizeof(s->name), "%s", verified);
    return e == 0;
}

/* Common to the three. False: refused. */
static bool take_name(struct smtp_session *s, struct str name)
{
    if (!path_is_helo(name)) {
        session_reply(s, 501, "", "Your name must be a domain or an address literal");
        return false;
    }
    /* RFC 5321 4.1.4: a second EHLO is as good as RSET. */
    session_reset(s);
    buf_clear(&s->helo);
    if (buf_add_str(&s->helo, name) < 0) {
        session_reply(s, 451, "", "Out of memory");
        return false;
    }
    if (!tell_backend(s, name))
        return false;
    s->state = SMTP_GREETED;
    return !s->is_over;
}

int cmd_helo(void *session, struct str arguments)
{
    struct smtp_session *s = session;

    if (s->kind == SMTP_KIND_LMTP) {
        session_reply(s, 500, "", "This is LMTP, say LHLO"); /* RFC 2033 4.1 */
        return 0;
    }
    if (!session_in_sync(s) || !take_name(s, arguments))
        return 0;
    s->is_esmtp = false;
    session_reply(s, 250, "", "%s", s->conf->hostname);
    return 0;
}

/* RFC 4865 3: how long, and until when in UTC. */
static void offer_future_release(struct smtp_session *s)
{
    time_t until = (time_t)(clock_now(&s->conf->clock) + HOLD_MAX);
    struct tm tm;
    char text[32];

    if (gmtime_r(&until, &tm) && strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0)
        session_reply_line(s, 250, "FUTURERELEASE %lld %s", (long long)HOLD_MAX, text);
}

static void offer(struct smtp_session *s)
{
    unsigned offers;

    s->is_esmtp = true;
    offers = session_offers(s);
    session_reply_line(s, 250, "%s greets you", s->conf->hostname);
    session_reply_line(s, 250, "SIZE %" PRIu64, s->conf->message_size); /* RFC 1870 */
    session_reply_line(s, 250, "8BITMIME");                             /* RFC 6152 */
    session_reply_line(s, 250, "BINARYMIME");                           /* RFC 3030 */
    session_reply_line(s, 250, "CHUNKING");
    session_reply_line(s, 250, "PIPELINING");                          /* RFC 2920 */
    session_reply_line(s, 250, "SMTPUTF8");                            /* RFC 6531 */
    session_reply_line(s, 250, "DSN");                                 /* RFC 3461 */
    session_reply_line(s, 250, "MT-PRIORITY");                         /* RFC 6710 */
    session_reply_line(s, 250, "DELIVERBY %d", BY_LEAST);              /* RFC 2852 */
    session_reply_line(s, 250, "LIMITS RCPTMAX=%d", LIMIT_RECIPIENTS); /* RFC 9422 */
    if (s->kind != SMTP_KIND_LMTP)
        session_reply_line(s, 250, "ETRN"); /* RFC 1985 */
    if (session_offers_atrn(s))
        session_reply_line(s, 250, "ATRN"); /* RFC 2645 */
    if (s->conf->send_to_terminal) {        /* RFC 1869 4.1.1.1 names the optional commands of RFC 821 so */
        session_reply_line(s, 250, "SEND");
        session_reply_line(s, 250, "SOML");
        session_reply_line(s, 250, "SAML");
    }
    if (s->facts.can_tls && !s->is_tls && !s->user)
        session_reply_line(s, 250, "STARTTLS"); /* RFC 3207 */
    if (session_offers_auth(s))
        session_reply_line(s, 250, "AUTH %s", s->facts.mechanisms); /* RFC 4954 */
    if (offers & OFFER_REQUIRETLS)
        session_reply_line(s, 250, "REQUIRETLS"); /* RFC 8689 */
    if (offers & OFFER_FUTURERELEASE)
        offer_future_release(s);
    if (s->can_xclient)
        session_reply_line(s, 250, "XCLIENT NAME ADDR PORT");
    session_reply_line(s, 250, "HELP");
    session_reply(s, 250, "", "ENHANCEDSTATUSCODES"); /* RFC 2034 */
}

int cmd_ehlo(void *session, struct str arguments)
{
    struct smtp_session *s = session;

    if (s->kind == SMTP_KIND_LMTP)
        session_reply(s, 500, "", "This is LMTP, say LHLO");
    else if (session_in_sync(s) && take_name(s, arguments))
        offer(s);
    return 0;
}

int cmd_lhlo(void *session, struct str arguments)
{
    struct smtp_session *s = session;

    if (s->kind != SMTP_KIND_LMTP)
        session_reply(s, 500, "", "This is not LMTP, say EHLO");
    else if (session_in_sync(s) && take_name(s, arguments))
        offer(s);
    return 0;
}
