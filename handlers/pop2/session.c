/*
 * The life of a POP2 session (see session.h). Runs in pop2-session as the user, on the client's connection.
 */
#include "handlers/pop2/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/serve/serve.h"

#define IN(state) (1u << (state))

/* RFC 937, server decision table. */
static const struct command commands[] = {
    {"FOLD", IN(POP2_MBOX) | IN(POP2_ITEM), 0, pop2_fold},
    {"READ", IN(POP2_MBOX) | IN(POP2_ITEM), 0, pop2_read},
    {"RETR", IN(POP2_ITEM), 0, pop2_retr},
    {"ACKS", IN(POP2_NEXT), 0, pop2_acks},
    {"ACKD", IN(POP2_NEXT), 0, pop2_ackd},
    {"NACK", IN(POP2_NEXT), 0, pop2_nack},
    {"QUIT", IN(POP2_MBOX) | IN(POP2_ITEM), 0, pop2_quit},
};

/* ---- answers ---- */

int pop2_fail(struct pop2 *s, const char *end, const char *format, ...)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LIMIT_LINE_POP3);
    va_list ap;

    va_start(ap, format);
    (void)buf_vprintf(&text, format, ap);
    va_end(ap);
    (void)writer_printf(&s->out, "- %s\r\n", buf_cstr(&text));
    s->end = end;
    return -EPROTO;
}

int pop2_store_fail(struct pop2 *s, int error)
{
    switch (error) {
    case -EBUSY:
        return pop2_fail(s, "in_use", "Another POP session has this mailbox open");
    case -EAGAIN:
        return pop2_fail(s, "locked", "Another program has locked the mailbox, try again in a moment");
    case -EBADMSG:
        return pop2_fail(s, "error", "The mailbox file is not in mbox form and was left alone");
    case -ELOOP:
    case -EPERM:
    case -EACCES:
        return pop2_fail(s, "error", "The mailbox is not a plain file of yours that may be opened");
    case -EROFS:
        return pop2_fail(s, "error", "The mailbox cannot be changed");
    case -ENOSPC:
    case -EDQUOT:
    case -EFBIG:
        return pop2_fail(s, "full", "There is no disk space left, nothing was removed");
    case -ENODEV:
        return pop2_fail(s, "error", "The folder of the mailbox is not there");
    case -ESTALE:
        return pop2_fail(s, "error", "Another program has replaced the mailbox, nothing was removed");
    default:
        return pop2_fail(s, "error", "%s", strerror(-error));
    }
}

/* ---- beginning and end ---- */

int pop2_init(struct pop2 *s, struct conf *conf, struct session *who, int rfd, int wfd)
{
    const struct serve_connection c = {.rfd = rfd,
                                       .wfd = wfd,
                                       .timeout = conf->timeout_pop3,
                                       .line_max = LIMIT_LINE_POP3,
                                       .transport = &s->transport,
                                       .in = &s->in,
                                       .out = &s->out};

    *s = (struct pop2){.who = who, .state = POP2_MBOX, .end = "error"};
    return serve_connect(&c, conf, who, &s->store);
}

void pop2_finish(struct pop2 *s)
{
    int r = mbox_close(s->box);

    if (r < 0)
        LOG_ERROR(LOG_WARNING, "mailbox_close", r);
    serve_log_notices(s->store);
    mbox_store_free(s->store);
    line_reader_finish(&s->in);
    writer_finish(&s->out);
    free(s->marks);
}

/* ---- commands ---- */

static int wrong_state(struct pop2 *s)
{
    static const char *const wants[] = {
        [POP2_AUTH] = "",
        [POP2_MBOX] = "FOLD, READ or QUIT",
        [POP2_ITEM] = "FOLD, READ, RETR or QUIT",
        [POP2_NEXT] = "ACKS, ACKD or NACK",
    };

    return pop2_fail(s, "bad_command", "This is the moment for %s", wants[s->state]);
}

static int run_line(struct pop2 *s, struct str line)
{
    const struct command *command;
    struct str name;
    int r;

    s->count.commands++;
    (void)str_cut(&line, ' ', &name);
    r = command_find(commands, ARRAY_SIZE(commands), name, s->state, &command);
    return r < 0 ? wrong_state(s) : command->run(s, line);
}

/* The decision table has "- error" for everything that is no command, and for silence. */
static int step(struct pop2 *s)
{
    struct str line;
    int r = line_read(&s->in, &line);

    if (r == -ENOBUFS)
        return pop2_fail(s, "bad_command", "The line is too long");
    if (r == -EBADMSG)
        return pop2_fail(s, "bad_command", "The line holds a NUL");
    if (r == -ETIMEDOUT)
        return pop2_fail(s, "timeout", "Nothing came for too long");
    if (r >= 0)
        r = run_line(s, line);
    serve_log_notices(s->store);
    return r < 0 ? r : s->out.error;
}

static const char *end_by(const struct pop2 *s, int error)
{
    switch (error) {
    case -ENODATA:
    case -EPIPE:
    case -ECONNRESET:
        return "eof";
    case -ETIMEDOUT:
        return "timeout";
    case -ESTALE:
        return "message_vanished";
    default:
        return s->end;
    }
}

/* On a pipe there is no HELO, and its answer is the greeting. */
int pop2_run(struct pop2 *s)
{
    int r = pop2_open(s, STR("INBOX"));

    while (r >= 0 && !s->is_leaving)
        r = step(s);
    if (r < 0 && s->box) /* whoever sees the end of the connection may come back at once */
        mbox_leave(s->box);
    if (serve_end(&s->out) < 0 && r >= 0)
        r = s->out.error;
    if (r < 0)
        s->end = end_by(s, r);
    return r;
}
