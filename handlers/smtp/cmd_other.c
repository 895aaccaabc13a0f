/*
 * RSET, NOOP, VRFY, EXPN, HELP, QUIT and what is refused by name. Part of smtp-session.
 */
#include <errno.h>
#include <stdlib.h>

#include "handlers/smtp/session.h"
#include "shared/route/path.h"

int cmd_rset(void *session, struct str arguments)
{
    struct smtp_session *s = session;

    if (arguments.len > 0) {
        session_reply(s, 501, "5.5.4", "RSET stands alone");
        return 0;
    }
    session_reset(s);
    if (!s->is_over)
        session_reply(s, 250, "2.0.0", "Forgotten");
    return 0;
}

int cmd_noop(void *session, struct str arguments)
{
    session_reply(session, 250, "2.0.0", "Ok");
    return 0;
}

/* RFC 6531 3.7.4.2: VRFY and EXPN take the parameter too, at the end. */
static bool take_utf8_parameter(struct str *arguments)
{
    if (!str_ends(*arguments, STR(" SMTPUTF8")) && !str_ends(*arguments, STR(" smtputf8")))
        return false;
    *arguments = str_trim(str_sub(*arguments, 0, arguments->len - 9));
    return true;
}

/* The same section: without it no reply has UTF-8 in it; what cannot be said in ASCII is not said. */
static void say_findings(struct smtp_session *s, const struct smtp_answer *answers, size_t count, bool is_utf8_fine)
{
    for (size_t i = 0; i < count && !is_utf8_fine; i++)
        if (!str_is_ascii(str_from(answers[i].text))) {
            session_reply(s, 252, "2.6.8", "Ask with SMTPUTF8, the answer is not ASCII");
            return;
        }
    for (size_t i = 0; i + 1 < count; i++)
        session_reply_line(s, answers[i].code, "%s %s", answers[i].enhanced, answers[i].text);
    session_answer(s, &answers[count - 1]);
}

/* RFC 5321 3.5.1: a user name or an address, with or without brackets. False: none, and it has been said. */
static bool take_mailbox(struct smtp_session *s, struct str arguments, const char *command, struct smtp_path *ret,
                         bool *ret_is_utf8)
{
    unsigned flags = PATH_BARE_OK;
    int e;

    *ret_is_utf8 = take_utf8_parameter(&arguments);
    if (*ret_is_utf8)
        flags |= PATH_UTF8;

    if (arguments.len > 0 && arguments.ptr[0] == '<') {
        e = path_parse(&arguments, flags, ret);
        if (e == 0 && arguments.len > 0)
            e = -EINVAL;
    } else {
        e = path_parse_mailbox(arguments, flags, ret);
    }
    if (e < 0)
        session_reply(s, 501, "5.1.3", "Like %s somebody", command);
    return e == 0;
}

int cmd_vrfy(void *session, struct str arguments)
{
    struct smtp_session *s = session;
    struct smtp_path path;
    struct smtp_answer answer;
    bool is_utf8;
    int e;

    if (!take_mailbox(s, arguments, "VRFY", &path, &is_utf8))
        return 0;
    e = s->backend.vrfy(s->backend.context, path.text, &answer);
    if (e == 0)
        say_findings(s, &answer, 1, is_utf8);
    return e;
}

int cmd_expn(void *session, struct str arguments)
{
    struct smtp_session *s = session;
    _cleanup_free_ struct smtp_answer *answers = calloc(BACKEND_EXPN, sizeof(*answers));
    struct smtp_path path;
    size_t count = BACKEND_EXPN;
    bool is_utf8;
    int e;

    if (!answers)
        return -ENOMEM;
    if (!take_mailbox(s, arguments, "EXPN", &path, &is_utf8))
        return 0;
    e = s->backend.expn(s->backend.context, path.text, answers, &count);
    if (e == 0)
        say_findings(s, answers, count, is_utf8);
    return e;
}

static const struct {
    const char *name;
    const char *syntax;
} HELP[] = {
    {"HELO", "HELO domain"},
    {"EHLO", "EHLO domain"},
    {"MAIL", "MAIL FROM:<sender> [SIZE=octets] [BODY=7BIT|8BITMIME]"},
    {"RCPT", "RCPT TO:<recipient>"},
    {"DATA", "DATA, then the message, then a lone dot"},
    {"BDAT", "BDAT octets [LAST], then the octets"},
    {"RSET", "RSET forgets the transaction"},
    {"NOOP", "NOOP does nothing"},
    {"VRFY", "VRFY user-or-address"},
    {"EXPN", "EXPN list"},
    {"ETRN", "ETRN domain starts sending what waits for it"},
    {"ATRN", "ATRN [domain,domain...] fetches your mail; the roles change then (RFC 2645)"},
    {"HELP", "HELP [command]"},
    {"QUIT", "QUIT ends the session"},
};

int cmd_help(void *session, struct str arguments)
{
    struct smtp_session *s = session;

    if (arguments.len == 0) {
        session_reply_line(s, 214, "2.0.0 HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY EXPN ETRN HELP QUIT");
        session_reply(s, 214, "2.0.0", "HELP command tells its syntax");
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(HELP); i++)
        if (str_ieq(arguments, str_from(HELP[i].name))) {
            session_reply(s, 214, "2.0.0", "%s", HELP[i].syntax);
            return 0;
        }
    session_reply(s, 504, "5.5.4", "No help for that");
    return 0;
}

int cmd_quit(void *session, struct str arguments)
{
    struct smtp_session *s = session;

    if (arguments.len > 0) {
        session_reply(s, 501, "5.5.4", "QUIT stands alone");
        return 0;
    }
    session_reply(s, 221, "2.0.0", "%s says goodbye", s->conf->hostname);
    s->is_over = true;
    s->has_quit = true;
    return 0;
}

/* RFC 1985 5.1: a domain, "@domain" with its subdomains; queue names ("#name") we have none. */
int cmd_etrn(void *session, struct str arguments)
{
    struct smtp_session *s = session;
    struct str domain = str_starts(arguments, STR("@")) ? str_sub(arguments, 1, arguments.len) : arguments;
    struct smtp_answer answer;
    int e = 0;

    if (!s->is_esmtp) {
        session_reply(s, 503, "5.5.1", "Say EHLO first");
    } else if (!path_is_domain(domain, true) || domain.len > LIMIT_DOMAIN) {
        session_reply(s, 501, "5.5.4", "Like ETRN example.org");
    } else {
        e = s->backend.etrn(s->backend.context, arguments, &answer);
        if (e == 0)
            session_answer(s, &answer);
    }
    return e;
}

/* RFC 5321 F.1 */
int cmd_turn(void *session, struct str arguments)
{
    session_reply(session, 502, "5.5.1", "TURN would give mail to whoever asks; use ETRN");
    return 0;
}

int cmd_not_here(void *session, struct str arguments)
{
    session_reply(session, 502, "5.5.1", "Not done here"); /* RFC 5321 4.2.4 */
    return 0;
}
