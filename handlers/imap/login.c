/*
 * imap-login: IMAP before login (RFC 9051 6.1 and 6.2, RFC 3501). Own uid, empty root, no capabilities, seccomp, libc
 * only; it may read and write the client's connection and the monitor's socket.
 */
#include <errno.h>
#include <stdio.h>

#include "handlers/imap/login.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"

#define TAG_MAX      64
#define ID_STRING    1024 /* RFC 2971 3.3 */
#define ID_STRINGS   60   /* of 30 pairs */
#define NO_ARGUMENTS 1u

/* ---- answers ---- */

static int tagged(struct login *l, const char *text)
{
    (void)writer_str(&l->out, buf_str(&l->tag));
    (void)writer_text(&l->out, text);
    return LOGIN_OK;
}

static int bad(struct login *l, const char *text)
{
    (void)WRITER_TEXTS(&l->out, l->tag.len > 0 ? buf_cstr(&l->tag) : "*", " BAD ", text, "\r\n");
    return LOGIN_BAD;
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

/* Does a literal follow the line that the client does not wait with (RFC 7888 4)? */
static bool comes_unasked(struct str line)
{
    return str_ends(line, STR("+}"));
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
    if (r == 0)
        r = bytes.len < size ? -ENODATA : buf_add_str(out, str_sub(bytes, 0, size));
    line_consume(&l->in, size);
    l->has_literal = false;
    if (r == 0)
        r = line_read(&l->in, s);
    if (r == -EBADMSG) {
        login_note(l->control, NOTE_WRONG_PROTOCOL, STR("NUL"));
        return -EPROTO;
    }
    if (r == 0 || r == -ENOBUFS)
        l->has_literal = comes_unasked(r == 0 ? *s : line_tail(&l->in));
    return r;
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

    (void)WRITER_TEXTS(&l->out, "* CAPABILITY ", l->facts.capabilities, "\r\n");
    return tagged(l, " OK CAPABILITY completed\r\n");
}

static int cmd_noop(void *session, struct str arguments)
{
    return tagged(session, " OK NOOP completed\r\n");
}

static int cmd_logout(void *session, struct str arguments)
{
    struct login *l = session;

    (void)writer_text(&l->out, "* BYE Logging out\r\n");
    (void)tagged(l, " OK LOGOUT completed\r\n");
    return LOGIN_LEAVE;
}

/* string, or nstring where NIL may be (RFC 2971 4), off *s. What it says is of no use. */
static int skip_string(struct login *l, struct str *s, bool may_be_nil)
{
    struct buf text = BUF_INIT(ID_STRING);
    int r = -EINVAL;

    if (may_be_nil && str_istarts(*s, STR("NIL"))) {
        *s = str_sub(*s, 3, s->len);
        return 0;
    }
    if (str_starts(*s, STR("\"")) || str_starts(*s, STR("{")))
        r = get_astring(l, s, &text);
    buf_finish(&text);
    return r;
}

/* id_params_list of RFC 2971 4: pairs of a field and its value. */
static int skip_id_list(struct login *l, struct str s)
{
    int r = str_starts(s, STR("(")) ? 0 : -EINVAL;
    unsigned n = 0;

    s = str_sub(s, 1, s.len);
    for (; r == 0 && (n % 2 || !str_starts(s, STR(")"))); n++) {
        if (n == ID_STRINGS || (n > 0 && !str_starts(s, STR(" "))))
            return -EINVAL;
        s = str_sub(s, n > 0, s.len);
        r = skip_string(l, &s, n % 2);
    }
    return r == 0 && !str_eq(s, STR(")")) ? -EINVAL : r;
}

/* RFC 2971. What the client says about itself is of no use before login. */
static int cmd_id(void *session, struct str arguments)
{
    struct login *l = session;
    int r = str_ieq(arguments, STR("NIL")) ? 0 : skip_id_list(l, arguments);

    if (r == -EINVAL || r == -ENOBUFS)
        return bad(l, "ID takes a list or NIL");
    if (r < 0)
        return r;
    (void)writer_text(&l->out, "* ID (\"name\" \"Pennypost\")\r\n");
    return tagged(l, " OK ID completed\r\n");
}

static int cmd_starttls(void *session, struct str arguments)
{
    struct login *l = session;
    char go_ahead[TAG_MAX + 64];
    char refused[TAG_MAX + 64];

    (void)snprintf(go_ahead, sizeof(go_ahead), "%s OK Begin TLS now\r\n", buf_cstr(&l->tag));
    (void)snprintf(refused, sizeof(refused), "%s BAD TLS is not available\r\n", buf_cstr(&l->tag));
    return login_do_starttls(l, go_ahead, refused);
}

/* RFC 5530 3 */
static const char *response_code(uint32_t class)
{
    static const char *const codes[] = {[AUTH_CLASS_CREDENTIALS] = "[AUTHENTICATIONFAILED] ",
                                        [AUTH_CLASS_EXPIRED] = "[EXPIRED] ",
                                        [AUTH_CLASS_DENIED] = "[CONTACTADMIN] ",
                                        [AUTH_CLASS_AUTHORIZATION] = "[AUTHORIZATIONFAILED] ",
                                        [AUTH_CLASS_TEMPORARY] = "[UNAVAILABLE] "};

    return class < ARRAY_SIZE(codes) && codes[class] ? codes[class] : "";
}

/* The answer to a success is the session's, with its capabilities: it needs the tag of the command. */
static void leave(const struct login *l, struct buf *out)
{
    (void)buf_add_str(out, buf_str(&l->tag));
}

static int conclude(struct login *l, const struct sasl_outcome *o)
{
    /* RFC 9051 6.2.2: what was cancelled, and what cannot be decoded. */
    bool is_bad = o->auth_class == AUTH_CLASS_CANCELLED || (o->auth_class == AUTH_CLASS_MECHANISM && o->is_offered);

    (void)WRITER_TEXTS(&l->out, buf_cstr(&l->tag), is_bad ? " BAD " : " NO ", response_code(o->auth_class),
                       o->text.len > 0 ? buf_cstr(&o->text) : "Authentication failed", "\r\n");
    if (l->attempts < LIMIT_AUTH_TRIES)
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
        r = login_try(l, STR("PLAIN"), buf_str(&user), buf_str(&password));
    buf_wipe_finish(&user);
    buf_wipe_finish(&password);
    return r;
}

/* With SASL-IR, RFC 4959. */
static int cmd_authenticate(void *session, struct str arguments)
{
    int r = login_exchange(session, arguments);

    return r == -EINVAL ? bad(session, "AUTHENTICATE takes a mechanism") : r;
}

static const struct command COMMANDS[] = {
    {"CAPABILITY", 1, NO_ARGUMENTS, cmd_capability},
    {"NOOP", 1, NO_ARGUMENTS, cmd_noop},
    {"LOGOUT", 1, NO_ARGUMENTS, cmd_logout},
    {"STARTTLS", 1, NO_ARGUMENTS, cmd_starttls},
    {"ID", 1, 0, cmd_id},
    {"LOGIN", 1, 0, cmd_login},
    {"AUTHENTICATE", 1, 0, cmd_authenticate},
};

/* ---- a line ---- */

static bool is_tag(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!is_atom_char(s.ptr[i]) || s.ptr[i] == '+')
            return false;
    return s.len > 0 && s.len <= TAG_MAX;
}

static int run_line(struct login *l, struct str line)
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
    if ((command->flags & NO_ARGUMENTS) && line.len > 0)
        return bad(l, "That command takes no arguments");
    if (l->has_literal && command->run != cmd_login && command->run != cmd_id)
        return bad(l, "No literal is taken here");
    return command->run(l, line);
}

/* The bytes of a literal that came without being asked for would be taken for commands when its command is refused: the
 * connection ends (RFC 7888 4). */
static int end_if_literal(struct login *l, int r)
{
    if (!l->has_literal || r != LOGIN_BAD)
        return r;
    (void)writer_text(&l->out, "* BYE A literal follows that cannot be told from commands\r\n");
    return LOGIN_LEAVE;
}

static int complain(struct login *l, int error)
{
    if (error == -ENOBUFS) {
        buf_clear(&l->tag);
        l->has_literal = comes_unasked(line_tail(&l->in));
        return end_if_literal(l, bad(l, "Line too long"));
    }
    (void)writer_text(&l->out, error == -ETIMEDOUT ? "* BYE Timed out waiting for a login\r\n"
                                                   : "* BYE Too many bad commands\r\n");
    return LOGIN_LEAVE;
}

static int on_line(struct login *l, struct str line)
{
    int r;

    l->has_literal = comes_unasked(line);
    r = run_line(l, line);
    return end_if_literal(l, r == -EMSGSIZE ? bad(l, "Literal too large") : r);
}

const struct login_protocol IMAP_LOGIN = {
    .name = "imap-login", .line_max = LIMIT_LINE_PREAUTH, .line = on_line, .complain = complain, .leave = leave,
    .conclude = conclude};
