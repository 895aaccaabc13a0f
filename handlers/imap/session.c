/*
 * The life of an IMAP session (see session.h). Runs in imap-session as the user, on the client's connection.
 */
#include "handlers/imap/session.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/compress.h"
#include "handlers/imap/notify.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/special.h"
#include "handlers/imap/update.h"
#include "handlers/imap/wait.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/serve/serve.h"

#define REPLY_TEXT 1024u
#define REPLY_CODE (1u << 20) /* COPYUID and MODIFIED name sets */
#define KEEP_FREE  (64u << 10)
#define FOUND_TEXT 24u /* of the client's text in a syntax error */

int imap_init(struct imap *s, struct conf *conf, struct session *who, int rfd, int wfd)
{
    const struct serve_connection c = {.rfd = rfd,
                                       .wfd = wfd,
                                       .timeout = conf->timeout_imap,
                                       .line_max = LIMIT_LINE_IMAP,
                                       .transport = &s->transport,
                                       .in = &s->in,
                                       .out = &s->out};

    int r;

    *s =
        (struct imap){.conf = conf, .who = who, .reply_code = BUF_INIT(REPLY_CODE), .reply_text = BUF_INIT(REPLY_TEXT)};
    parse_init(&s->parse, &s->in, &s->out);
    r = serve_connect(&c, conf, who, &s->store);
    if (r >= 0)
        mbox_store_offer(s->store, special_is_offered, s);
    return r;
}

int imap_deselect(struct imap *s)
{
    int r;

    notify_leave(s);
    r = mbox_close(s->box);
    s->box = NULL;
    s->state = IMAP_AUTHENTICATED;
    s->keywords_told = 0;
    numset_clear(&s->saved);
    if (r < 0)
        LOG_ERROR(LOG_WARNING, "mailbox_flush", r);
    return r;
}

void imap_finish(struct imap *s)
{
    (void)imap_deselect(s);
    serve_log_notices(s->store);
    mbox_store_free(s->store);
    parse_finish(&s->parse);
    line_reader_finish(&s->in);
    writer_finish(&s->out);
    compress_free(s->compress);
    numset_finish(&s->saved);
    numset_finish(&s->own.added);
    notify_free(s->notify);
    buf_finish(&s->reply_code);
    buf_finish(&s->reply_text);
}

/* PREAUTH for whoever runs us on a pipe, else the reply to the LOGIN or AUTHENTICATE that the login stage read. */
static void greet(struct imap *s)
{
    struct str rest = buf_str(&s->who->messages), line;

    if (s->who->is_preauth) {
        (void)writer_text(&s->out, "* PREAUTH [");
        capability_write(s);
        (void)writer_printf(&s->out, "] %s Pennypost ready\r\n", s->conf->hostname);
    }
    while (rest.len) {
        (void)str_cut(&rest, '\n', &line);
        (void)respond_ok(s, "%.*s", STR_ARG(line));
        if (s->reply_text.len)
            (void)writer_printf(&s->out, "* OK [ALERT] %s\r\n", buf_cstr(&s->reply_text));
        buf_clear(&s->reply_text);
    }
    if (!s->who->is_preauth) {
        (void)writer_printf(&s->out, "%s OK [", s->who->protocol.len ? buf_cstr(&s->who->protocol) : "*");
        capability_write(s);
        (void)writer_text(&s->out, "] Logged in\r\n");
    }
}

/* What went wrong with the command, in words: what was expected, and what stood there. */
static int explain_syntax(struct imap *s)
{
    struct str found = str_sub(s->parse.rest, 0, FOUND_TEXT);
    const char *expected = s->parse.expected ? s->parse.expected : "something else";

    if (!s->command)
        return respond_bad(s, "Expected %s", expected);
    if (!found.len)
        return respond_bad(s, "%s: expected %s, found the end of the line", s->command, expected);
    return respond_bad(s, "%s: expected %s at: %.*s", s->command, expected, STR_ARG(found));
}

/* Runs the command on the line that parse_begin() has read. An outcome or a negative errno. */
static int run_line(struct imap *s)
{
    const struct command *command;
    struct str tag, name;
    int r = parse_tag(&s->parse, &tag);

    if (r < 0)
        return r;
    memcpy(s->tag, tag.ptr, tag.len);
    s->tag[tag.len] = '\0';
    r = parse_name(&s->parse, &name);
    if (r < 0)
        return r;
    /* RFC 9051 6.4.9 */
    s->is_uid = str_ieq(name, STR("UID"));
    if (s->is_uid) {
        s->command = "UID";
        r = parse_space(&s->parse);
        if (r >= 0)
            r = parse_name(&s->parse, &name);
        if (r < 0)
            return r;
    }
    /* RFC 9051 6.2: before login only. */
    if (str_ieq(name, STR("LOGIN")) || str_ieq(name, STR("AUTHENTICATE")) || str_ieq(name, STR("STARTTLS"))) {
        respond_code(s, "CLIENTBUG");
        return respond_bad(s, "%.*s is not for a session that is logged in", STR_ARG(name));
    }
    r = command_find(commands_table, commands_count, name, s->state, &command);
    if (r == -ENOENT || (r == 0 && s->is_uid && !(command->flags & IMAP_HAS_UID)))
        return respond_bad(s, "There is no command %s%.*s", s->is_uid ? "UID " : "", STR_ARG(str_sub(name, 0, 40)));
    if (r == -EPERM)
        respond_code(s, "CLIENTBUG");
    if (r == -EPERM && s->state == IMAP_AUTHENTICATED)
        return respond_bad(s, "%s needs a selected mailbox", command->name);
    if (r == -EPERM)
        return respond_bad(s, "%s is not for a session with a selected mailbox", command->name);
    s->command = command->name;
    /* RFC 9586 3.2, 3.8 */
    if ((s->enabled & IMAP_UIDONLY) && (command->flags & IMAP_NUMBERS) && !s->is_uid) {
        respond_code(s, "UIDREQUIRED");
        return respond_bad(s, "After ENABLE UIDONLY it is UID %s", command->name);
    }
    /* RFC 5465 5: what the client does itself is no news. It is told from what others do by what the mailboxes are like
     * before and behind it. */
    if (command->flags & IMAP_CHANGES)
        notify_look(s);
    r = command->run(s, s->parse.rest);
    if ((command->flags & IMAP_CHANGES) && r >= 0)
        notify_look(s);
    if (r >= 0 && r != OUTCOME_BAD && !(command->flags & IMAP_NO_UPDATE))
        update_send(s, (command->flags & IMAP_NO_EXPUNGE) && (!s->is_uid || s->has_numbers));
    return r;
}

/* Sends the tagged reply. 0, or a negative errno that ends the session. */
static int finish_command(struct imap *s, int r)
{
    int skip = 0;

    if (r == -EINVAL && s->parse.expected)
        r = explain_syntax(s);
    if (r == -EMSGSIZE) {
        respond_code(s, "TOOBIG");
        r = respond_no(s, "A literal or the whole command is longer than this server takes");
        skip = parse_skip(&s->parse);
    } else if (r == -ENOMEM || r == -ENOBUFS) {
        r = respond_error(s, r, s->command ? s->command : "Command");
        skip = parse_skip(&s->parse);
    } else if (r == OUTCOME_BAD || r == OUTCOME_NO) {
        skip = parse_skip(&s->parse);
    }
    if (skip == -EMSGSIZE)
        (void)writer_text(&s->out, "* BYE [TOOBIG] The literal is too large\r\n");
    if (r < 0 || skip < 0)
        return r < 0 ? r : skip;
    s->bad = r == OUTCOME_BAD ? s->bad + 1 : 0;
    respond_tagged(s, (enum imap_outcome)r);
    if (s->wants_compress && s->out.error == 0) {
        s->wants_compress = false;
        return compress_start(s);
    }
    return s->out.error;
}

/* What a large command held goes back to the system while the client thinks: many sessions idle at a time. */
static void give_memory_back(struct imap *s)
{
    if (line_buffered(&s->in).len == 0 && mallinfo2().fordblks > KEEP_FREE)
        (void)malloc_trim(KEEP_FREE / 2);
}

static int step(struct imap *s)
{
    int r;

    s->tag[0] = '\0';
    s->command = NULL;
    s->is_uid = s->has_numbers = false;
    s->own.kind = OWN_NOTHING;
    numset_clear(&s->own.added);
    give_memory_back(s);
    r = wait_for_input(s, false);
    if (r < 0)
        return r == -ESTALE ? 0 : r;
    r = parse_begin(&s->parse);
    if (r == -ENOBUFS)
        r = respond_bad(s, "The line is longer than %d octets", LIMIT_LINE_IMAP);
    else if (r == -EBADMSG)
        r = respond_bad(s, "The line holds a NUL or does not end with CRLF");
    else if (r >= 0)
        r = run_line(s);
    if (r == -EBADMSG)
        r = respond_bad(s, "The line behind a literal holds a NUL or does not end with CRLF");
    s->commands++;
    r = finish_command(s, r);
    serve_log_notices(s->store);
    return r;
}

int imap_run(struct imap *s)
{
    int r = 0;

    greet(s);
    while (r >= 0 && !s->is_leaving) {
        r = step(s);
        if (r >= 0 && s->bad >= LIMIT_BAD_COMMANDS) {
            (void)writer_text(&s->out, "* BYE Too many bad commands\r\n");
            s->end = "bad commands";
            s->is_leaving = true;
        }
    }
    if (r == -ETIMEDOUT && s->out.error == 0)
        (void)writer_text(&s->out, "* BYE [UNAVAILABLE] Idle for too long\r\n");
    if (r == -ECANCELED && s->out.error == 0)
        (void)writer_text(&s->out, "* BYE [UNAVAILABLE] The server is being stopped\r\n");
    (void)serve_end(&s->out);
    if (!s->end)
        s->end = r == -ENODATA || r == -EPIPE ? "eof"
                 : r == -ETIMEDOUT            ? "timeout"
                 : r == -ECANCELED            ? "stop"
                 : r == -ECONNABORTED         ? "message_vanished"
                                              : "error";
    if (r >= 0 && s->out.error < 0)
        r = s->out.error;
    return r >= 0 && strcmp(s->end, "logout") != 0 ? -ENODATA : r;
}
