/*
 * pop3-login: POP3's AUTHORIZATION state (RFC 1939 4, RFC 2449, RFC 2595, RFC 5034). Own uid, empty root, no
 * capabilities, seccomp, libc only; it may read and write the client's connection and the monitor's socket.
 */
#include <errno.h>

#include "handlers/pop3/login.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"

/* ---- answers ---- */

static int ok(struct login *l, const char *text)
{
    (void)writer_printf(&l->out, "+OK %s\r\n", text);
    return LOGIN_OK;
}

static int bad(struct login *l, const char *text)
{
    (void)writer_printf(&l->out, "-ERR %s\r\n", text);
    return LOGIN_BAD;
}

static void greet(struct login *l)
{
    (void)writer_printf(&l->out, "+OK %s Pennypost ready%s%s\r\n", l->facts.hostname,
                        l->facts.apop[0] != '\0' ? " " : "", l->facts.apop);
}

static int complain(struct login *l, int error)
{
    if (error == -ENOBUFS)
        return bad(l, "line too long");
    (void)bad(l, error == -ETIMEDOUT ? "timed out waiting for a login" : "too many bad commands");
    return LOGIN_LEAVE;
}

/* ---- commands ---- */

/* RFC 2449 5: what comes after login is announced here too, since it does not change. */
static int cmd_capa(void *session, struct str arguments)
{
    struct login *l = session;

    if (arguments.len > 0)
        return bad(l, "CAPA takes no arguments");
    (void)ok(l, "capabilities follow");
    (void)writer_text(&l->out, "TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\n");
    if (l->facts.can_tls)
        (void)writer_text(&l->out, "STLS\r\n");
    if (l->facts.plaintext_allowed)
        (void)writer_text(&l->out, "USER\r\n");
    if (l->facts.mechanisms[0] != '\0')
        (void)writer_printf(&l->out, "SASL %s\r\n", l->facts.mechanisms);
    (void)writer_text(&l->out, "IMPLEMENTATION Pennypost-" PENNYPOST_VERSION "\r\n.\r\n");
    return LOGIN_OK;
}

static int cmd_quit(void *session, struct str arguments)
{
    if (arguments.len > 0)
        return bad(session, "QUIT takes no arguments");
    (void)ok(session, "bye");
    return LOGIN_LEAVE;
}

static int cmd_stls(void *session, struct str arguments)
{
    if (arguments.len > 0)
        return bad(session, "STLS takes no arguments");
    return login_do_starttls(session, "+OK begin TLS now\r\n", "-ERR TLS is not available\r\n");
}

static const char *response_code(uint32_t class)
{
    switch (class) { /* RFC 3206 */
    case AUTH_CLASS_CREDENTIALS:
    case AUTH_CLASS_EXPIRED:
        return "[AUTH] ";
    case AUTH_CLASS_DENIED:
        return "[SYS/PERM] ";
    case AUTH_CLASS_TEMPORARY:
        return "[SYS/TEMP] ";
    default:
        return "";
    }
}

/* The answer to a success is the session's: the maildrop may still be locked (RFC 1939 4). */
static int conclude(struct login *l, const struct sasl_outcome *o)
{
    buf_clear(&l->user);
    if (o->is_done)
        return LOGIN_DONE;
    (void)writer_printf(&l->out, "-ERR %s%s\r\n", response_code(o->auth_class),
                        o->text.len > 0 ? buf_cstr(&o->text) : "authentication failed");
    return login_is_last_attempt(l) ? LOGIN_LEAVE : LOGIN_OK;
}

static int cmd_user(void *session, struct str arguments)
{
    struct login *l = session;

    if (!l->facts.plaintext_allowed)
        return bad(l, "use TLS before sending a password");
    buf_clear(&l->user);
    if (arguments.len == 0 || buf_add_str(&l->user, arguments) < 0)
        return bad(l, "USER takes a name");
    return ok(l, "send PASS");
}

/* The password is the rest of the line, blanks and all (RFC 1939 7). */
static int cmd_pass(void *session, struct str arguments)
{
    struct login *l = session;
    _cleanup_sasl_outcome_ struct sasl_outcome o = SASL_OUTCOME_INIT;
    int r = 0;

    if (l->user.len == 0)
        return bad(l, "send USER first");
    if (arguments.len > LIMIT_PASSWORD)
        return bad(l, "password too long");
    r = login_begin_attempt(l);
    if (r == 0)
        r = sasl_plain(l->control, l->attempts, buf_str(&l->user), arguments, &o);
    return r < 0 ? r : conclude(l, &o);
}

/* Name, blank, 32 hexadecimal digits (RFC 1939 7). */
static int cmd_apop(void *session, struct str arguments)
{
    struct login *l = session;
    _cleanup_sasl_outcome_ struct sasl_outcome o = SASL_OUTCOME_INIT;
    struct str user;
    int r = 0;

    if (l->facts.apop[0] == '\0')
        return bad(l, "APOP is not available");
    if (!str_cut(&arguments, ' ', &user) || user.len == 0 || user.len > LIMIT_USER || arguments.len != 32)
        return bad(l, "APOP takes a name and a digest");
    r = login_begin_attempt(l);
    if (r == 0)
        r = sasl_apop(l->control, l->attempts, user, arguments, &o);
    return r < 0 ? r : conclude(l, &o);
}

static int send_challenge(void *context, struct str base64)
{
    struct login *l = context;

    (void)writer_text(&l->out, "+ ");
    (void)writer_str(&l->out, base64);
    return writer_text(&l->out, "\r\n");
}

static int read_response(void *context, struct str *ret_line)
{
    struct login *l = context;

    return line_read(&l->in, ret_line);
}

static int list_mechanisms(struct login *l)
{
    struct str mechanisms = str_from(l->facts.mechanisms);
    struct str mechanism;

    (void)ok(l, "mechanisms follow");
    while (str_word(&mechanisms, &mechanism))
        (void)writer_printf(&l->out, "%.*s\r\n", STR_ARG(mechanism));
    (void)writer_text(&l->out, ".\r\n");
    return LOGIN_OK;
}

static int cmd_auth(void *session, struct str arguments)
{
    struct login *l = session;
    const struct sasl_client client = {.context = l, .challenge = send_challenge, .response = read_response};
    _cleanup_sasl_outcome_ struct sasl_outcome o = SASL_OUTCOME_INIT;
    struct str initial = STR_NULL;
    struct str mechanism;
    int r = 0;

    if (arguments.len == 0)
        return list_mechanisms(l);
    if (str_cut(&arguments, ' ', &mechanism))
        initial = arguments;
    if (mechanism.len == 0 || (initial.ptr && initial.len == 0))
        return bad(l, "AUTH takes a mechanism");
    r = login_begin_attempt(l);
    if (r == 0)
        r = sasl_exchange(l->control, l->attempts, str_from(l->facts.mechanisms), mechanism, initial, &client, &o);
    return r < 0 ? r : conclude(l, &o);
}

static const struct command COMMANDS[] = {
    {"CAPA", 1, 0, cmd_capa}, {"USER", 1, 0, cmd_user}, {"PASS", 1, 0, cmd_pass}, {"APOP", 1, 0, cmd_apop},
    {"AUTH", 1, 0, cmd_auth}, {"STLS", 1, 0, cmd_stls}, {"QUIT", 1, 0, cmd_quit},
};

static int on_line(struct login *l, struct str line)
{
    const struct command *command = NULL;
    struct str name;

    (void)str_cut(&line, ' ', &name);
    if (command_find(COMMANDS, ARRAY_SIZE(COMMANDS), name, 0, &command) < 0)
        return bad(l, "unknown command, or log in first");
    return command->run(l, line);
}

const struct login_protocol POP3_LOGIN = {
    .name = "pop3-login", .line_max = LIMIT_LINE_PREAUTH, .greet = greet, .line = on_line, .complain = complain};
