/*
 * MAIL and RCPT. Part of smtp-session.
 */
#include <errno.h>

#include "handlers/smtp/session.h"
#include "shared/base/limits.h"
#include "shared/route/path.h"

/* Takes "FROM:" or "TO:" off the arguments. Blanks behind the colon are wrong but common, and do no harm. */
static bool take_keyword(struct str *s, struct str keyword)
{
    if (!str_istarts(*s, keyword))
        return false;
    *s = str_sub(*s, keyword.len, s->len);
    while (s->len > 0 && s->ptr[0] == ' ')
        *s = str_sub(*s, 1, s->len);
    return true;
}

static void refuse_path(struct smtp_session *s, int e, unsigned code_detail, const char *example)
{
    const char *enhanced = code_detail == 7 ? "5.1.7" : "5.1.3";

    if (e == -ENAMETOOLONG)
        session_reply(s, 501, enhanced, "The address is too long");
    else
        session_reply(s, 501, enhanced, "Bad address syntax; like %s", example);
}

/* RFC 6531 3.4, 3.5: UTF-8 addresses only in a transaction that said SMTPUTF8. False: refused. */
static bool is_utf8_fine(struct smtp_session *s, const struct smtp_path *path, bool is_utf8)
{
    if (is_utf8 || !path->is_utf8)
        return true;
    session_reply(s, 553, "5.6.7", "MAIL must say SMTPUTF8 for a non-ASCII address");
    return false;
}

/* What the grammar allows here: a local program may leave the domain out. */
static unsigned path_flags(const struct smtp_session *s)
{
    return (s->is_pipe || s->kind == SMTP_KIND_LOCAL ? PATH_BARE_OK : 0u) | (s->is_esmtp ? PATH_UTF8 : 0u);
}

static bool keep_sender(struct smtp_session *s, const struct smtp_path *path, const struct mail_params *params)
{
    s->txn.params = *params;
    s->txn.params.envid = STR_NULL; /* a view into the line */
    return clock_unique(&s->conf->clock, &s->txn.id) == 0 && buf_add_str(&s->txn.sender, path->text) == 0;
}

static int begin_transaction(struct smtp_session *s, struct str arguments, enum param_way way)
{
    unsigned offers = session_offers(s);
    struct smtp_path path;
    struct mail_params params = {0};
    struct smtp_answer answer;
    int e;

    if (!take_keyword(&arguments, STR("FROM:"))) {
        session_reply(s, 501, "5.5.4", "Like MAIL FROM:<you@example.org>");
        return 0;
    }
    e = path_parse(&arguments, PATH_NULL_OK | path_flags(s), &path);
    if (e < 0) {
        refuse_path(s, e, 7, "MAIL FROM:<you@example.org>");
        return 0;
    }
    if (param_parse_mail(arguments, offers, &params, &answer) < 0) {
        session_answer(s, &answer);
        return 0;
    }
    params.way = way;
    if (!is_utf8_fine(s, &path, params.is_utf8))
        return 0;
    if (!keep_sender(s, &path, &params)) {
        session_reset(s);
        session_reply(s, 451, "4.3.0", "Out of memory");
        return 0;
    }
    e = s->backend.mail(s->backend.context,
                        &(struct smtp_envelope){.id = buf_str(&s->txn.id), .sender = path.text, .params = params},
                        &answer);
    if (e < 0)
        return e;
    if (answer_is_ok(&answer))
        s->state = SMTP_MAIL;
    else
        session_reset(s);
    session_answer(s, &answer);
    return 0;
}

int cmd_mail(void *session, struct str arguments)
{
    return begin_transaction(session, arguments, WAY_MAIL);
}

/* RFC 821 3.4, which RFC 5321 F.6 leaves to us. */
static int send_to_terminal(struct smtp_session *s, struct str arguments, enum param_way way)
{
    if (!s->conf->send_to_terminal)
        return cmd_not_here(s, arguments);
    if (s->state == SMTP_GREETED)
        return begin_transaction(s, arguments, way);
    if (s->state == SMTP_START)
        session_reply(s, 503, "5.5.1", "Say EHLO or HELO first");
    else
        session_reply(s, 503, "5.5.1", "A transaction is open already; RSET ends it");
    return 0;
}

int cmd_send(void *session, struct str arguments)
{
    return send_to_terminal(session, arguments, WAY_SEND);
}

int cmd_soml(void *session, struct str arguments)
{
    return send_to_terminal(session, arguments, WAY_SOML);
}

int cmd_saml(void *session, struct str arguments)
{
    return send_to_terminal(session, arguments, WAY_SAML);
}

int cmd_rcpt(void *session, struct str arguments)
{
    struct smtp_session *s = session;
    struct smtp_path path;
    struct rcpt_params params = {0};
    struct smtp_answer answer;
    int e;

    if (!take_keyword(&arguments, STR("TO:"))) {
        session_reply(s, 501, "5.5.4", "Like RCPT TO:<somebody@%s>", s->conf->hostname);
        return 0;
    }
    e = path_parse(&arguments, PATH_POSTMASTER_OK | path_flags(s), &path);
    if (e < 0) {
        refuse_path(s, e, 3, "RCPT TO:<somebody@example.org>");
        return 0;
    }
    if (param_parse_rcpt(arguments, session_offers(s), &params, &answer) < 0) {
        session_answer(s, &answer);
        return 0;
    }
    if (!is_utf8_fine(s, &path, s->txn.params.is_utf8))
        return 0;
    e = s->backend.rcpt(s->backend.context, path.text, &params, &answer);
    if (e < 0)
        return e;
    if (answer_is_ok(&answer)) {
        if (s->txn.recipients++ == 0)
            e = buf_add_str(&s->txn.recipient, path.text);
        s->state = SMTP_RCPT;
    }
    session_answer(s, &answer);
    return e;
}
