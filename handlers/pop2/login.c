/*
 * pop2-login: POP2's AUTH state (RFC 937). Own uid, empty root, no capabilities, seccomp, libc only; it may read and
 * write the client's connection and the monitor's socket.
 */
#include "handlers/pop2/login.h"

#include <errno.h>

#include "handlers/pop2/quote.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"

/* "if anything goes wrong close the connection" (RFC 937, System Model and Philosophy) */
static int fail(struct login *l, const char *text)
{
    (void)writer_printf(&l->out, "- %s\r\n", text);
    return LOGIN_LEAVE;
}

static int complain(struct login *l, int error)
{
    return fail(l, error == -ENOBUFS ? "line too long" : "timed out waiting for a login");
}

/* The answer to a success is the session's: it counts the messages. */
static int conclude(struct login *l, const struct sasl_outcome *o)
{
    return fail(l, o->text.len > 0 ? buf_cstr(&o->text) : "authentication failed");
}

static int cmd_helo(void *session, struct str arguments)
{
    struct login *l = session;
    struct buf password = BUF_INIT(LIMIT_PASSWORD);
    int r;

    if (!l->facts.plaintext_allowed)
        return fail(l, "a password is not accepted without TLS");
    buf_clear(&l->user);
    if (quote_take(&arguments, false, &l->user) < 0 || quote_take(&arguments, true, &password) < 0 ||
        !utf8_valid(buf_str(&l->user)) || !utf8_valid(buf_str(&password)))
        r = fail(l, "the form is: HELO user password");
    else
        r = login_try(l, STR("PLAIN"), buf_str(&l->user), buf_str(&password));
    buf_wipe_finish(&password);
    return r;
}

static int cmd_quit(void *session, struct str arguments)
{
    struct login *l = session;

    if (arguments.len > 0)
        return fail(l, "QUIT takes no argument");
    (void)writer_text(&l->out, "+ Bye\r\n");
    return LOGIN_LEAVE;
}

static const struct command COMMANDS[] = {
    {"HELO", 1, 0, cmd_helo},
    {"QUIT", 1, 0, cmd_quit},
};

static int on_line(struct login *l, struct str line)
{
    const struct command *command = NULL;
    struct str name;

    (void)str_cut(&line, ' ', &name);
    if (command_find(COMMANDS, ARRAY_SIZE(COMMANDS), name, 0, &command) < 0)
        return fail(l, "HELO comes first");
    return command->run(l, line);
}

const struct login_protocol POP2_LOGIN = {
    .name = "pop2-login", .line_max = LIMIT_LINE_PREAUTH, .line = on_line, .complain = complain, .conclude = conclude};
