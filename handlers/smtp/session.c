/*
 * The loop of smtp-session: read a line, find its row, run it. Under a monitor: uid pennypost-smtp, empty root, no
 * capabilities, seccomp. On a pipe: the invoking user.
 */
#include "handlers/smtp/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "shared/base/limits.h"
#include "shared/base/log.h"

static const struct command COMMANDS[] = {
    {"HELO", SMTP_ANYWHERE, 0, cmd_helo},
    {"EHLO", SMTP_ANYWHERE, 0, cmd_ehlo},
    {"LHLO", SMTP_ANYWHERE, 0, cmd_lhlo},
    {"MAIL", SMTP_IN(SMTP_GREETED), 0, cmd_mail},
    {"RCPT", SMTP_IN(SMTP_MAIL) | SMTP_IN(SMTP_RCPT), 0, cmd_rcpt},
    {"DATA", SMTP_IN(SMTP_RCPT), 0, cmd_data},
    {"BDAT", SMTP_ANYWHERE, 0, cmd_bdat}, /* in every state its octets must be read */
    {"RSET", SMTP_ANYWHERE, 0, cmd_rset},
    {"NOOP", SMTP_ANYWHERE, 0, cmd_noop},
    {"VRFY", SMTP_ANYWHERE, 0, cmd_vrfy},
    {"EXPN", SMTP_ANYWHERE, 0, cmd_expn},
    {"HELP", SMTP_ANYWHERE, 0, cmd_help},
    {"QUIT", SMTP_ANYWHERE, 0, cmd_quit},
    {"STARTTLS", SMTP_IN(SMTP_GREETED), 0, cmd_starttls},
    {"AUTH", SMTP_IN(SMTP_GREETED), 0, cmd_auth},
    {"XQUEUE", SMTP_IN(SMTP_START) | SMTP_IN(SMTP_GREETED), 0, cmd_xqueue},
    {"XCLIENT", SMTP_IN(SMTP_START) | SMTP_IN(SMTP_GREETED), 0, cmd_xclient},
    {"ETRN", SMTP_IN(SMTP_GREETED), 0, cmd_etrn},
    {"ATRN", SMTP_IN(SMTP_START) | SMTP_IN(SMTP_GREETED), 0, cmd_atrn},
    {"TURN", SMTP_ANYWHERE, 0, cmd_turn},
    {"SEND", SMTP_ANYWHERE, 0, cmd_send},
    {"SOML", SMTP_ANYWHERE, 0, cmd_soml},
    {"SAML", SMTP_ANYWHERE, 0, cmd_saml},
};

/* What talks to the wrong port: proxies and web browsers. They get one line and the end. */
static const char *const FOREIGN_VERBS[] = {"GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT"};

static void write_reply(struct smtp_session *s, unsigned code, char separator, const char *enhanced, const char *text)
{
    const char mark[] = {separator, '\0'};

    (void)writer_u64(&s->writer, code);
    (void)writer_texts(&s->writer, (const char *const[]){mark, enhanced, *enhanced ? " " : "", text, "\r\n", NULL});
}

static void count_outcome(struct smtp_session *s, unsigned code)
{
    if (code < 400) {
        s->bad = 0;
        return;
    }
    s->refused++;
    s->bad += code != 452; /* for want of room, which is no fault of the client's */
}

void session_reply(struct smtp_session *s, unsigned code, const char *enhanced, const char *format, ...)
{
    struct smtp_answer a;
    va_list ap;

    va_start(ap, format);
    answer_vset(&a, code, enhanced, format, ap);
    va_end(ap);
    session_answer(s, &a);
}

void session_answer(struct smtp_session *s, const struct smtp_answer *a)
{
    write_reply(s, a->code, ' ', a->enhanced, a->text);
    count_outcome(s, a->code);
}

void session_reply_line(struct smtp_session *s, unsigned code, const char *format, ...)
{
    char text[ANSWER_TEXT];
    va_list ap;

    va_start(ap, format);
    (void)vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    write_reply(s, code, '-', "", text);
}

void session_fail(struct smtp_session *s, int error)
{
    if (!s->is_over)
        session_reply(s, 421, "4.3.0", "%s internal error, try again later", s->conf->hostname);
    s->is_over = true;
    s->error = error;
}

void session_reset(struct smtp_session *s)
{
    int e = s->state > SMTP_GREETED ? s->backend.reset(s->backend.context) : 0;

    message_close(s);
    if (s->state > SMTP_GREETED)
        s->state = SMTP_GREETED;
    buf_clear(&s->txn.id);
    buf_clear(&s->txn.sender);
    buf_clear(&s->txn.recipient);
    s->txn.params = (struct mail_params){0};
    s->txn.recipients = 0;
    s->lost = 0;
    if (e < 0)
        session_fail(s, e);
}

/* Is there input that the client should not have sent yet? */
static bool has_early_input(struct smtp_session *s)
{
    return line_buffered(&s->reader).len > 0 || transport_wait(&s->transport, -1, 0) == TRANSPORT_INPUT;
}

bool session_in_sync(struct smtp_session *s)
{
    if (s->is_near || !has_early_input(s))
        return true;
    LOG_EVENT(LOG_NOTICE, "early-talker", LOG_FC("state", s->state == SMTP_START ? "greeting" : "command"));
    session_reply(s, 554, "5.5.0", "You talk before it is your turn");
    s->is_over = true;
    s->error = -EPROTO;
    return false;
}

unsigned session_offers(const struct smtp_session *s)
{
    unsigned offers;

    if (!s->is_esmtp)
        return 0;
    offers = OFFER_SIZE | OFFER_8BITMIME | OFFER_BINARYMIME | OFFER_SMTPUTF8 | OFFER_DSN | OFFER_MT_PRIORITY |
             OFFER_DELIVERBY;
    if (s->kind == SMTP_KIND_SUBMISSION)
        offers |= OFFER_AUTH;
    if (s->is_tls) /* RFC 8689 2 */
        offers |= OFFER_REQUIRETLS;
    if (s->user || s->is_pipe) /* RFC 4865 5: for those who submit */
        offers |= OFFER_FUTURERELEASE;
    return offers;
}

bool session_offers_auth(const struct smtp_session *s)
{
    return s->kind == SMTP_KIND_SUBMISSION && !s->user && s->facts.mechanisms[0] != '\0';
}

bool session_offers_atrn(const struct smtp_session *s)
{
    return s->kind == SMTP_KIND_SUBMISSION && s->has_atrn && s->backend.atrn;
}

int session_learn_facts(struct smtp_session *s)
{
    return s->learn_facts ? s->learn_facts(s) : -EOPNOTSUPP;
}

static void refuse_state(struct smtp_session *s, const struct command *c)
{
    const uint32_t outside = SMTP_IN(SMTP_START) | SMTP_IN(SMTP_GREETED); /* of transactions */

    if (s->state == SMTP_START)
        session_reply(s, 503, "5.5.1", "Say %s first", s->kind == SMTP_KIND_LMTP ? "LHLO" : "EHLO or HELO");
    else if ((c->states & ~outside) == 0)
        session_reply(s, 503, "5.5.1", "A transaction is open already; RSET ends it");
    else if (s->state == SMTP_CHUNKS)
        session_reply(s, 503, "5.5.1", "BDAT goes on until LAST");
    else if (s->state == SMTP_GREETED)
        session_reply(s, 503, "5.5.1", "MAIL comes before %s", c->name);
    else
        session_reply(s, 503, "5.5.1", "%s needs an accepted RCPT", c->name);
}

static bool is_foreign(struct str verb)
{
    for (size_t i = 0; i < ARRAY_SIZE(FOREIGN_VERBS); i++)
        if (str_eq(verb, str_from(FOREIGN_VERBS[i])))
            return true;
    return false;
}

static void run_line(struct smtp_session *s, struct str line)
{
    const struct command *c = NULL;
    struct str verb = STR_NULL;
    int e;

    s->commands++;
    if (line.len == 0 || line.ptr[0] == ' ' || !str_word(&line, &verb)) {
        session_reply(s, 500, "5.5.2", "That is not a command");
        return;
    }
    e = command_find(COMMANDS, ARRAY_SIZE(COMMANDS), verb, (uint32_t)s->state, &c);
    if (e == 0) {
        e = c->run(s, str_trim(line));
        if (e < 0)
            session_fail(s, e);
    } else if (e == -EPERM) {
        refuse_state(s, c);
    } else {
        session_reply(s, 500, "5.5.1", "Unknown command");
        if (is_foreign(verb)) {
            LOG_EVENT(LOG_NOTICE, "wrong-protocol", {"line", verb});
            s->is_over = true;
            s->error = -EPROTO;
        }
    }
}

/* RFC 5321 3.8: 421 and close, when we end it. */
static void say_goodbye(struct smtp_session *s, const char *enhanced, const char *why, int error)
{
    session_reply(s, 421, enhanced, "%s %s", s->conf->hostname, why);
    s->is_over = true;
    s->error = error;
}

static void read_failed(struct smtp_session *s, int e)
{
    if (e == -ENOBUFS)
        session_reply(s, 500, "5.5.2", "The line is too long");
    else if (e == -EBADMSG)
        session_reply(s, 500, "5.5.2", "A bare CR or LF, or a NUL, is not allowed");
    else if (e == -ETIMEDOUT)
        say_goodbye(s, "4.4.2", "nothing heard for too long", e);
    else {
        s->is_over = true;
        s->error = e;
    }
}

/* Waits for input or for the end of the service. False: the session is over. */
static bool wait_for_input(struct smtp_session *s)
{
    int r = line_wait(&s->reader, s->stop_fd, s->transport.read_timeout * 1000);

    if (r == 0) {
        read_failed(s, -ETIMEDOUT);
    } else if (r < 0) {
        read_failed(s, r);
    } else if (!(r & TRANSPORT_INPUT)) {
        say_goodbye(s, "4.3.2", "is going down, try again later", -ESHUTDOWN);
    }
    return !s->is_over;
}

static void greet(struct smtp_session *s)
{
    if (s->unwelcome[0]) {
        session_reply(s, 421, "4.7.0", "%s", s->unwelcome);
        s->is_over = true;
        s->error = -ECONNREFUSED;
        return;
    }
    if (!session_in_sync(s))
        return;
    session_reply(s, 220, "", "%s %s Pennypost", s->conf->hostname, s->kind == SMTP_KIND_LMTP ? "LMTP" : "ESMTP");
}

void session_run(struct smtp_session *s)
{
    struct str line;
    int e;

    greet(s);
    while (!s->is_over && wait_for_input(s)) {
        e = line_read(&s->reader, &line);
        if (e < 0)
            read_failed(s, e);
        else
            run_line(s, line);
        if (!s->is_over && s->bad >= LIMIT_BAD_COMMANDS)
            say_goodbye(s, "4.7.0", "too many errors", -EPROTO);
        if (s->writer.error < 0) {
            s->is_over = true;
            s->error = s->writer.error;
        }
    }
    (void)writer_flush(&s->writer);
}
