/*
 * pop3-login: POP3's AUTHORIZATION state (RFC 1939 4, RFC 2449, RFC 2595, RFC 5034). Own uid, empty root, no
 * capabilities, seccomp, libc only; it may read and write the client's connection and the monitor's socket.
 */
#include <errno.h>

#include "handlers/pop3/capa.h"
#include "handlers/pop3/login.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"

/* ---- answers ---- */

static int ok(struct login *l, const char *text)
{
    (void)WRITER_TEXTS(&l->out, "+OK ", text, "\r\n");
    return LOGIN_OK;
}

static int bad(struct login *l, const char *text)
{
    (void)WRITER_TEXTS(&l->out, "-ERR ", text, "\r\n");
    return LOGIN_BAD;
}

static int complain(struct login *l, int error)
{
    if (error == -ENOBUFS)
        return bad(l, "line too long");
    (void)bad(l, error == -ETIMEDOUT ? "timed out waiting for a login" : "too many bad commands");
    return LOGIN_LEAVE;
}

/* ---- commands ---- */

/* RFC 2449 5: what only this stage knows and the session announces too, with `end` behind each line. */
static void print_own_capabilities(const struct login *l, const char *end, struct buf *out)
{
    if (l->facts.plaintext_allowed)
        (void)buf_printf(out, "USER%s", end);
    if (l->facts.mechanisms[0] != '\0')
        (void)buf_printf(out, "SASL %s%s", l->facts.mechanisms, end);
}

static void leave(const struct login *l, struct buf *out)
{
    (void)buf_add_str(out, l->is_utf8 ? STR(POP3_DATA_UTF8 "\n") : STR_NULL);
    print_own_capabilities(l, "\n", out);
}

static int cmd_capa(void *session, struct str arguments)
{
    struct login *l = session;
    _cleanup_buf_ struct buf own = BUF_INIT(LIMIT_LINE_POP3);

    (void)ok(l, "capabilities follow");
    (void)writer_text(&l->out, l->facts.capabilities);
    if (l->facts.can_tls)
        (void)writer_text(&l->out, "STLS\r\n"); /* RFC 2595 8: in this state only */
    print_own_capabilities(l, "\r\n", &own);
    (void)writer_str(&l->out, buf_str(&own));
    (void)writer_text(&l->out, ".\r\n");
    return LOGIN_OK;
}

static int cmd_lang(void *session, struct str arguments)
{
    return pop3_lang(&((struct login *)session)->out, arguments) ? LOGIN_OK : LOGIN_BAD;
}

/* RFC 6856 2.1. The session is told; what else is handed over comes at login. */
static int cmd_utf8(void *session, struct str arguments)
{
    ((struct login *)session)->is_utf8 = true;
    return ok(session, "UTF-8 it is");
}

static int cmd_quit(void *session, struct str arguments)
{
    (void)ok(session, "bye");
    return LOGIN_LEAVE;
}

static int cmd_stls(void *session, struct str arguments)
{
    if (((struct login *)session)->is_utf8) /* RFC 6856 2.1 */
        return bad(session, "STLS comes before UTF8");
    return login_do_starttls(session, "+OK begin TLS now\r\n", "-ERR TLS is not available\r\n");
}

/* RFC 3206 5: AUTH is also an expired account and a violation of policy. */
static const char *response_code(uint32_t class)
{
    static const char *const codes[] = {[AUTH_CLASS_CREDENTIALS] = "[AUTH] ",
                                        [AUTH_CLASS_EXPIRED] = "[AUTH] ",
                                        [AUTH_CLASS_DENIED] = "[AUTH] ",
                                        [AUTH_CLASS_AUTHORIZATION] = "[AUTH] ",
                                        [AUTH_CLASS_TEMPORARY] = "[SYS/TEMP] "};

    return class < ARRAY_SIZE(codes) && codes[class] ? codes[class] : "";
}

/* The answer to a success is the session's: the maildrop may still be locked (RFC 1939 4). */
static int conclude(struct login *l, const struct sasl_outcome *o)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_NOTE);

    pop3_add_words(&text, o->text.len > 0 ? buf_str(&o->text) : STR("authentication failed"));
    (void)WRITER_TEXTS(&l->out, "-ERR ", response_code(o->auth_class), buf_cstr(&text), "\r\n");
    return l->attempts < LIMIT_AUTH_TRIES ? LOGIN_OK : LOGIN_LEAVE;
}

static int cmd_user(void *session, struct str arguments)
{
    struct login *l = session;

    if (!l->facts.plaintext_allowed)
        return bad(l, "use TLS before sending a password");
    buf_clear(&l->user);
    if (arguments.len == 0 || !utf8_valid(arguments) || buf_add_str(&l->user, arguments) < 0) /* RFC 6856 2.2 */
        return bad(l, "USER takes a name");
    return ok(l, "send PASS");
}

/* The password is the rest of the line, blanks and all (RFC 1939 7). */
static int cmd_pass(void *session, struct str arguments)
{
    struct login *l = session;

    if (l->user.len == 0)
        return bad(l, "send USER first");
    if (arguments.len > LIMIT_PASSWORD || !utf8_valid(arguments))
        return bad(l, "[AUTH] password too long or not UTF-8"); /* RFC 3206 6 */
    return login_try(l, STR("PLAIN"), buf_str(&l->user), arguments);
}

/* Name, blank, 32 hexadecimal digits (RFC 1939 7). */
static int cmd_apop(void *session, struct str arguments)
{
    struct login *l = session;
    struct str user;

    if (l->facts.apop[0] == '\0')
        return bad(l, "APOP is not available");
    if (!str_cut(&arguments, ' ', &user) || user.len == 0 || user.len > LIMIT_USER || arguments.len != 32 ||
        !utf8_valid(user)) /* RFC 6856 2.2 */
        return bad(l, "APOP takes a name and a digest");
    return login_try(l, STR("APOP"), user, arguments);
}

static int list_mechanisms(struct login *l)
{
    struct str mechanisms = str_from(l->facts.mechanisms);
    struct str mechanism;

    (void)ok(l, "mechanisms follow");
    for (; str_word(&mechanisms, &mechanism); (void)writer_text(&l->out, "\r\n"))
        (void)writer_str(&l->out, mechanism);
    (void)writer_text(&l->out, ".\r\n");
    return LOGIN_OK;
}

static int cmd_auth(void *session, struct str arguments)
{
    int r = arguments.len == 0 ? list_mechanisms(session) : login_exchange(session, arguments);

    return r == -EINVAL ? bad(session, "AUTH takes a mechanism") : r;
}

#define NO_ARGUMENTS 1u

static const struct command COMMANDS[] = {
    {"CAPA", 1, NO_ARGUMENTS, cmd_capa},
    {"USER", 1, 0, cmd_user},
    {"PASS", 1, 0, cmd_pass},
    {"APOP", 1, 0, cmd_apop},
    {"AUTH", 1, 0, cmd_auth},
    {"STLS", 1, NO_ARGUMENTS, cmd_stls},
    {"QUIT", 1, NO_ARGUMENTS, cmd_quit},
    {"UTF8", 1, NO_ARGUMENTS, cmd_utf8},
    {"LANG", 1, 0, cmd_lang},
};

static int run_line(struct login *l, struct str line)
{
    const struct command *command = NULL;
    struct str name;

    (void)str_cut(&line, ' ', &name);
    if (command_find(COMMANDS, ARRAY_SIZE(COMMANDS), name, 0, &command) < 0)
        return bad(l, "log in first: before it there are CAPA USER PASS APOP AUTH STLS UTF8 LANG QUIT");
    if ((command->flags & NO_ARGUMENTS) && line.len > 0)
        return bad(l, "that command takes no arguments");
    return command->run(l, line);
}

static int on_line(struct login *l, struct str line)
{
    bool is_user = str_istarts(line, STR("USER ")); /* the line is gone when the command has flushed or read */
    int r = run_line(l, line);

    if (!is_user)
        buf_clear(&l->user); /* RFC 1939 7: PASS comes immediately after USER */
    return r;
}

const struct login_protocol POP3_LOGIN = {
    .name = "pop3-login", .line_max = LIMIT_LINE_PREAUTH, .line = on_line, .complain = complain, .leave = leave,
    .conclude = conclude};
