/*
 * STARTTLS and AUTH: both are the monitor's work, here is only the dialogue. Part of smtp-session.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "handlers/smtp/session.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"

/* RFC 3207 4.2: what was said in the clear is forgotten, and the client greets again. */
static int begin_again(struct smtp_session *s, int fd)
{
    s->transport.rfd = s->transport.wfd = fd;
    (void)close(STDIN_FILENO);
    (void)close(STDOUT_FILENO);
    line_discard(&s->reader);
    session_reset(s);
    s->state = SMTP_START;
    buf_clear(&s->helo);
    return session_learn_facts(s);
}

int cmd_starttls(void *session, struct str arguments)
{
    struct smtp_session *s = session;
    int fd = -1;
    int e;

    if (arguments.len > 0) {
        session_reply(s, 501, "5.5.4", "STARTTLS stands alone");
        return 0;
    }
    if (s->user) { /* RFC 3207 4.2 would have us forget who he is */
        session_reply(s, 503, "5.5.1", "STARTTLS comes before AUTH");
        return 0;
    }
    if (!s->facts.can_tls || s->is_tls) {
        session_reply(s, s->is_tls ? 503 : 502, "5.5.1", s->is_tls ? "TLS is active already" : "No TLS here");
        return 0;
    }
    e = login_starttls(s->control, &s->reader, &fd);
    if (e == -EPROTO) {
        session_reply(s, 554, "5.5.0", "Data came behind STARTTLS");
        s->is_over = true;
        s->error = e;
        return 0;
    }
    if (e == -EOPNOTSUPP) {
        session_reply(s, 454, "4.7.0", "TLS is not available now");
        return 0;
    }
    if (e < 0)
        return e;
    session_reply(s, 220, "2.0.0", "Go ahead");
    e = writer_flush(&s->writer);
    return e < 0 ? e : begin_again(s, fd);
}

static int say_challenge(void *context, struct str base64)
{
    struct smtp_session *s = context;

    return writer_printf(&s->writer, "334 %.*s\r\n", STR_ARG(base64));
}

static int read_response(void *context, struct str *ret_line)
{
    struct smtp_session *s = context;

    int e = line_read(&s->reader, ret_line);

    s->is_response_long = e == -ENOBUFS;
    return e;
}

/* What PAM has to say to the user, on one line and in ASCII, as a reply must be (RFC 5321 4.2); or something else. */
static const char *words_or(struct str words, const char *otherwise, char out[static LIMIT_NOTE])
{
    size_t n = 0;

    words = str_sub(str_trim(words), 0, LIMIT_NOTE - 1);
    for (; n < words.len; n++)
        out[n] = words.ptr[n] == '\n' ? ' ' : words.ptr[n] < ' ' || words.ptr[n] > '~' ? '?' : words.ptr[n];
    out[n] = '\0';
    return n > 0 ? out : otherwise;
}

/* RFC 4954 6 and its words for every way to fail. */
static const struct {
    uint32_t auth_class;
    unsigned code;
    const char *enhanced;
    const char *text;
} FAILURES[] = {
    {AUTH_CLASS_CREDENTIALS, 535, "5.7.8", "Authentication failed"},
    {AUTH_CLASS_EXPIRED, 535, "5.7.8", "The account or password has expired"},
    {AUTH_CLASS_DENIED, 535, "5.7.8", "Not allowed for this account"},
    {AUTH_CLASS_AUTHORIZATION, 535, "5.7.8", "Nobody can act for another user here"},
    {AUTH_CLASS_TEMPORARY, 454, "4.7.0", "Authentication is not available now"},
    {AUTH_CLASS_MECHANISM, 501, "5.5.2", "What was said in that mechanism makes no sense"},
    {AUTH_CLASS_CANCELLED, 501, "5.0.0", "Cancelled"},
};

static void say_failure(struct smtp_session *s, const struct sasl_outcome *outcome)
{
    char said[LIMIT_NOTE];

    if (s->is_response_long) { /* RFC 4954 4, 6 */
        session_reply(s, 500, "5.5.6", "The line is too long");
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(FAILURES); i++)
        if (FAILURES[i].auth_class == outcome->auth_class) {
            session_reply(s, FAILURES[i].code, FAILURES[i].enhanced, "%s",
                          words_or(buf_str(&outcome->text), FAILURES[i].text, said));
            return;
        }
    session_reply(s, 454, "4.7.0", "Authentication is not available now");
}

static void finish_attempt(struct smtp_session *s, const struct sasl_outcome *outcome)
{
    char said[LIMIT_NOTE];

    if (!outcome->is_done) {
        say_failure(s, outcome);
        if (s->attempts >= LIMIT_AUTH_TRIES) {
            session_reply(s, 421, "4.7.0", "%s too many failed attempts", s->conf->hostname);
            s->is_over = true;
            s->error = -EPERM;
        }
        return;
    }
    s->user = str_dup(buf_str(&outcome->user));
    if (!s->user) {
        session_fail(s, -ENOMEM);
        return;
    }
    s->transport.deadline = 0;
    session_reply(s, 235, "2.7.0", "%s", words_or(buf_str(&outcome->messages), "Welcome", said));
}

int cmd_auth(void *session, struct str arguments)
{
    struct smtp_session *s = session;
    const struct sasl_client client = {.context = s, .challenge = say_challenge, .response = read_response};
    _cleanup_sasl_outcome_ struct sasl_outcome outcome = SASL_OUTCOME_INIT;
    struct str mechanism, initial = STR_NULL;
    int e;

    if (!session_offers_auth(s)) {
        if (s->user)
            session_reply(s, 503, "5.5.1", "Authenticated already"); /* RFC 4954 4 */
        else if (s->facts.can_tls && !s->is_tls)
            session_reply(s, 538, "5.7.11", "Say STARTTLS first"); /* RFC 4954 4, 6 */
        else
            session_reply(s, 502, "5.5.1", "No AUTH here");
        return 0;
    }
    if (!str_word(&arguments, &mechanism)) {
        session_reply(s, 501, "5.5.4", "Like AUTH PLAIN");
        return 0;
    }
    if (!str_has_word(str_from(s->facts.mechanisms), mechanism)) {
        session_reply(s, 504, "5.5.4", "That mechanism is not known here");
        return 0;
    }
    (void)str_word(&arguments, &initial);
    if (str_trim(arguments).len > 0) {
        session_reply(s, 501, "5.5.4", "Like AUTH PLAIN response");
        return 0;
    }
    s->is_response_long = false;
    e = sasl_exchange(s->control, ++s->attempts, (struct sasl_ahead){0}, str_from(s->facts.mechanisms), mechanism,
                      initial, &client, &outcome);
    if (e < 0)
        return e;
    finish_attempt(s, &outcome);
    return 0;
}
