/*
 * imap-login: IMAP before login (RFC 9051 6.1 and 6.2, RFC 3501). Own uid, empty root, no capabilities, seccomp, libc
 * only; it may read and write the client's connection and the monitor's socket.
 */
#include <errno.h>
#include <stdio.h>

#include "handlers/imap/login.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"

#define TAG_MAX 64

/* ---- answers ---- */

static int tagged(struct login *l, const char *text)
{
    (void)writer_str(&l->out, buf_str(&l->tag));
    (void)writer_text(&l->out, text);
    return LOGIN_OK;
}

static int bad(struct login *l, const char *text)
{
    (void)writer_printf(&l->out, "%s BAD %s\r\n", l->tag.len > 0 ? buf_cstr(&l->tag) : "*", text);
    return LOGIN_BAD;
}

/* Only what is there: the session announces its own after login. Literals are names and passwords here, so LITERAL-
 * (RFC 7888 5) is the promise that is kept. */
static void add_capabilities(struct login *l)
{
    struct str mechanisms = str_from(l->facts.mechanisms);
    struct str mechanism;

    (void)writer_text(&l->out, "IMAP4rev1 IMAP4rev2 LITERAL- SASL-IR ID");
    if (l->facts.can_tls)
        (void)writer_text(&l->out, " STARTTLS");
    if (!l->facts.plaintext_allowed)
        (void)writer_text(&l->out, " LOGINDISABLED");
    while (str_word(&mechanisms, &mechanism))
        (void)writer_printf(&l->out, " AUTH=%.*s", STR_ARG(mechanism));
}

static void greet(struct login *l)
{
    (void)writer_text(&l->out, "* OK [CAPABILITY ");
    add_capabilities(l);
    (void)writer_printf(&l->out, "] %s Pennypost ready\r\n", l->facts.hostname);
}

static int complain(struct login *l, int error)
{
    if (error == -ENOBUFS) {
        buf_clear(&l->tag);
        return bad(l, "Line too long");
    }
    (void)writer_text(&l->out, error == -ETIMEDOUT ? "* BYE Timed out waiting for a login\r\n"
                                                   : "* BYE Too many bad commands\r\n");
    return LOGIN_LEAVE;
}

/* ---- arguments ---- */

static bool is_atom_char(char c)
{
    return c > ' ' && c < 0x7f && c != '(' && c != ')' && c != '{' && c != '%' && c != '*' && c != '"' && c != '\\';
}

/* "quoted" at the front of *s. 0, -EINVAL, -ENOBUFS. */
static int get_quoted(struct str *s, struct buf *out)
{
    size_t i = 1;

    for (; i < s->len && s->ptr[i] != '"'; i++) {
        int r = 0;

        if (s->ptr[i] == '\\' && (++i == s->len || (s->ptr[i] != '"' && s->ptr[i] != '\\')))
            return -EINVAL;
        r = buf_add_byte(out, s->ptr[i]);
        if (r < 0)
            return r;
    }
    if (i >= s->len)
        return -EINVAL;
    *s = str_sub(*s, i + 1, s->len);
    return 0;
}

static int get_atom(struct str *s, struct buf *out)
{
    size_t n = 0;

    while (n < s->len && is_atom_char(s->ptr[n]))
        n++;
    if (n == 0)
        return -EINVAL;

    int r = buf_add(out, s->ptr, n);

    *s = str_sub(*s, n, s->len);
    return r;
}

/* {12} or {12+} at the end of the line (RFC 7888). */
static int parse_literal(struct str s, uint32_t *ret_size, bool *ret_waits)
{
    if (s.len < 3 || s.ptr[0] != '{' || s.ptr[s.len - 1] != '}')
        return -EINVAL;
    s = str_sub(s, 1, s.len - 2);
    *ret_waits = !str_ends(s, STR("+"));
    if (!*ret_waits)
        s.len--;
    return str_to_u32(s, ret_size) < 0 ? -EINVAL : 0;
}

/* The bytes of a literal and the rest of the command behind it. -ENOBUFS: more than fits; when the client does not wait
 * for us the connection has to end then, since what follows would be taken for commands. */
static int get_literal(struct login *l, struct str *s, struct buf *out)
{
    uint32_t size = 0;
    bool waits = false;
    struct str bytes;
    int r = parse_literal(*s, &size, &waits);

    if (r < 0)
        return r;
    if (size > out->max)
        return waits ? -ENOBUFS : -EMSGSIZE;
    if (waits)
        (void)writer_text(&l->out, "+ Go ahead\r\n");
    r = line_peek_more(&l->in, size, &bytes);
    if (r == 0 && bytes.len < size)
        r = -ENODATA;
    if (r == 0)
        r = buf_add_str(out, str_sub(bytes, 0, size));
    line_consume(&l->in, size);
    return r < 0 ? r : line_read(&l->in, s);
}

/* One astring. *s is behind it, on the next line after a literal. */
static int get_astring(struct login *l, struct str *s, struct buf *out)
{
    int r = buf_reserve(out, out->max);

    if (r < 0)
        return r;
    if (s->len > 0 && s->ptr[0] == '"')
        return get_quoted(s, out);
    if (s->len > 0 && s->ptr[0] == '{')
        return get_literal(l, s, out);
    return get_atom(s, out);
}

/* ---- commands ---- */

static int cmd_capability(void *session, struct str arguments)
{
    struct login *l = session;

    if (arguments.len > 0)
        return bad(l, "CAPABILITY takes no arguments");
    (void)writer_text(&l->out, "* CAPABILITY ");
    add_capabilities(l);
    (void)writer_text(&l->out, "\r\n");
    return tagged(l, " OK CAPABILITY completed\r\n");
}

static int cmd_noop(void *session, struct str arguments)
{
    return arguments.len > 0 ? bad(session, "NOOP takes no arguments") : tagged(session, " OK NOOP completed\r\n");
}

static int cmd_logout(void *session, struct str arguments)
{
    struct login *l = session;

    if (arguments.len > 0)
        return bad(l, "LOGOUT takes no arguments");
    (void)writer_text(&l->out, "* BYE Logging out\r\n");
    (void)tagged(l, " OK LOGOUT completed\r\n");
    return LOGIN_LEAVE;
}

/* RFC 2971. What the client says about itself is of no use before login. */
static int cmd_id(void *session, struct str arguments)
{
    struct login *l = session;

    bool is_list = str_starts(arguments, STR("(")) && str_ends(arguments, STR(")"));

    if (!is_list && !str_ieq(arguments, STR("NIL")))
        return bad(l, "ID takes a list or NIL");
    (void)writer_text(&l->out, "* ID (\"name\" \"Pennypost\")\r\n");
    return tagged(l, " OK ID completed\r\n");
}

static int cmd_starttls(void *session, struct str arguments)
{
    struct login *l = session;
    char go_ahead[TAG_MAX + 64];
    char refused[TAG_MAX + 64];

    if (arguments.len > 0)
        return bad(l, "STARTTLS takes no arguments");
    (void)snprintf(go_ahead, sizeof(go_ahead), "%s OK Begin TLS now\r\n", buf_cstr(&l->tag));
    (void)snprintf(refused, sizeof(refused), "%s BAD TLS is not available\r\n", buf_cstr(&l->tag));
    return login_do_starttls(l, go_ahead, refused);
}

static const char *response_code(uint32_t class)
{
    switch (class) { /* RFC 5530 3 */
    case AUTH_CLASS_EXPIRED:
        return "[EXPIRED] ";
    case AUTH_CLASS_DENIED: /* not AUTHORIZATIONFAILED: that is for acting as somebody else */
        return "[CONTACTADMIN] ";
    case AUTH_CLASS_TEMPORARY:
        return "[UNAVAILABLE] ";
    case AUTH_CLASS_CREDENTIALS:
        return "[AUTHENTICATIONFAILED] ";
    default:
        return "";
    }
}

/* The answer to a success is the session's, with its capabilities. */
static int conclude(struct login *l, const struct sasl_outcome *o)
{
    bool is_bad = o->auth_class == AUTH_CLASS_CANCELLED; /* RFC 9051 6.2.2 */

    if (o->is_done)
        return buf_add_str(&l->protocol_data, buf_str(&l->tag)) < 0 ? -ENOMEM : LOGIN_DONE;
    (void)writer_printf(&l->out, "%s %s %s%s\r\n", buf_cstr(&l->tag), is_bad ? "BAD" : "NO",
                        response_code(o->auth_class), o->text.len > 0 ? buf_cstr(&o->text) : "Authentication failed");
    if (!login_is_last_attempt(l))
        return LOGIN_OK;
    (void)writer_text(&l->out, "* BYE Too many failed logins\r\n");
    return LOGIN_LEAVE;
}

static int get_credentials(struct login *l, struct str arguments, struct buf *user, struct buf *password)
{
    int r = get_astring(l, &arguments, user);

    if (r < 0)
        return r;
    if (arguments.len == 0 || arguments.ptr[0] != ' ')
        return -EINVAL;
    arguments = str_sub(arguments, 1, arguments.len);
    r = get_astring(l, &arguments, password);
    return r < 0 ? r : arguments.len > 0 ? -EINVAL : 0;
}

static int try_login(struct login *l, const struct buf *user, const struct buf *password)
{
    _cleanup_sasl_outcome_ struct sasl_outcome o = SASL_OUTCOME_INIT;
    int r = 0;

    r = login_begin_attempt(l);
    if (r == 0)
        r = sasl_plain(l->control, l->attempts, buf_str(user), buf_str(password), &o);
    return r < 0 ? r : conclude(l, &o);
}

static int cmd_login(void *session, struct str arguments)
{
    struct login *l = session;
    struct buf user = BUF_INIT(LIMIT_PASSWORD);
    struct buf password = BUF_INIT(LIMIT_PASSWORD);
    int r = get_credentials(l, arguments, &user, &password);

    if (r == -EINVAL)
        r = bad(l, "LOGIN takes a user name and a password");
    else if (r == -ENOBUFS)
        r = bad(l, "Name or password too long");
    else if (r == 0 && !l->facts.plaintext_allowed)
        r = tagged(l, " NO [PRIVACYREQUIRED] Use TLS before sending a password\r\n"); /* RFC 5530 3 */
    else if (r == 0)
        r = try_login(l, &user, &password);
    buf_wipe_finish(&user);
    buf_wipe_finish(&password);
    return r;
}

static bool is_offered(const struct login *l, struct str mechanism)
{
    struct str list = str_from(l->facts.mechanisms);
    struct str item;

    while (str_word(&list, &item))
        if (str_ieq(item, mechanism))
            return true;
    return false;
}

static int cmd_authenticate(void *session, struct str arguments)
{
    struct login *l = session;
    _cleanup_sasl_outcome_ struct sasl_outcome o = SASL_OUTCOME_INIT;
    struct str initial = STR_NULL;
    struct str mechanism;
    int r = 0;

    if (str_cut(&arguments, ' ', &mechanism))
        initial = arguments; /* SASL-IR, RFC 4959 */
    if (mechanism.len == 0 || (initial.ptr && initial.len == 0))
        return bad(l, "AUTHENTICATE takes a mechanism");
    r = login_exchange(l, mechanism, initial, &o);
    /* RFC 9051 6.2.2: what cannot be decoded is BAD, as an exchange that was cancelled is. */
    if (r == 0 && o.auth_class == AUTH_CLASS_MECHANISM && is_offered(l, mechanism))
        o.auth_class = AUTH_CLASS_CANCELLED;
    return r < 0 ? r : conclude(l, &o);
}

static const struct command COMMANDS[] = {
    {"CAPABILITY", 1, 0, cmd_capability}, {"NOOP", 1, 0, cmd_noop},
    {"LOGOUT", 1, 0, cmd_logout},         {"ID", 1, 0, cmd_id},
    {"LOGIN", 1, 0, cmd_login},           {"AUTHENTICATE", 1, 0, cmd_authenticate},
    {"STARTTLS", 1, 0, cmd_starttls},
};

/* ---- a line ---- */

static bool is_tag(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!is_atom_char(s.ptr[i]) || s.ptr[i] == '+')
            return false;
    return s.len > 0 && s.len <= TAG_MAX;
}

static int run_line(struct login *l, struct str line, bool has_literal)
{
    const struct command *command = NULL;
    struct str tag;
    struct str name;

    buf_clear(&l->tag);
    (void)str_cut(&line, ' ', &tag);
    if (!is_tag(tag))
        return bad(l, "No tag");
    if (buf_add_str(&l->tag, tag) < 0)
        return -ENOMEM;
    (void)str_cut(&line, ' ', &name);
    if (command_find(COMMANDS, ARRAY_SIZE(COMMANDS), name, 0, &command) < 0)
        return bad(l, "Unknown command, or log in first");
    if (has_literal && command->run != cmd_login)
        return bad(l, "No literal is taken here");
    return command->run(l, line);
}

/* The bytes of a literal that came without being asked for would be taken for commands when its command is refused: the
 * connection ends (RFC 7888 4). */
static int on_line(struct login *l, struct str line)
{
    bool has_literal = str_ends(line, STR("+}"));
    int r = run_line(l, line, has_literal);

    if (r == -EMSGSIZE)
        r = bad(l, "Literal too large");
    if (!has_literal || r != LOGIN_BAD)
        return r;
    (void)writer_text(&l->out, "* BYE A literal follows that cannot be told from commands\r\n");
    return LOGIN_LEAVE;
}

const struct login_protocol IMAP_LOGIN = {
    .name = "imap-login", .line_max = LIMIT_LINE_PREAUTH, .greet = greet, .line = on_line, .complain = complain};
