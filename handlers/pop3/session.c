/*
 * The life of a POP3 session (see session.h). Runs in pop3-session as the user, on the client's connection.
 */
#include "handlers/pop3/capa.h"
#include "handlers/pop3/login.h"
#include "handlers/pop3/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/serve/serve.h"

#define TEXT  490 /* RFC 2449 4: a line of 512 octets, with "-ERR [LOGIN-DELAY] " and the line end */
#define WORDS 256 /* of PAM's */

#define T (1u << POP3_TRANSACTION)
#define A (1u << POP3_AUTHORIZATION)

static int only_before_login(void *session, struct str arguments)
{
    (void)arguments;
    return pop3_err(session, NULL, "You are logged in already");
}

static const struct command commands[] = {
    {"STAT", T, 0, pop3_stat},
    {"LIST", T, 0, pop3_list},
    {"RETR", T, 0, pop3_retr},
    {"DELE", T, 0, pop3_dele},
    {"NOOP", T, 0, pop3_noop},
    {"RSET", T, 0, pop3_rset},
    {"QUIT", T, 0, pop3_quit},
    {"TOP", T, 0, pop3_top},
    {"UIDL", T, 0, pop3_uidl},
    {"LAST", T, 0, pop3_last},
    {"CAPA", T, 0, pop3_capa},
    {"LANG", T, 0, pop3_language},
    {"UTF8", T, 0, pop3_utf8},
    /* Refused in words. */
    {"USER", A, 0, only_before_login},
    {"PASS", A, 0, only_before_login},
    {"APOP", A, 0, only_before_login},
    {"AUTH", A, 0, only_before_login},
    {"STLS", A, 0, only_before_login},
};

/* ---- answers ---- */

int pop3_ok(struct pop3 *s, const char *format, ...)
{
    _cleanup_buf_ struct buf text = BUF_INIT(TEXT);
    va_list ap;

    va_start(ap, format);
    (void)buf_vprintf(&text, format, ap);
    va_end(ap);
    (void)writer_printf(&s->out, "+OK %s\r\n", buf_cstr(&text));
    return POP3_OK;
}

int pop3_ok_number(struct pop3 *s, const char *before, uint64_t n, const char *behind)
{
    (void)writer_text(&s->out, "+OK ");
    (void)writer_text(&s->out, before);
    (void)writer_u64(&s->out, n);
    (void)writer_text(&s->out, behind);
    (void)writer_text(&s->out, "\r\n");
    return POP3_OK;
}

int pop3_err(struct pop3 *s, const char *code, const char *format, ...)
{
    _cleanup_buf_ struct buf text = BUF_INIT(TEXT);
    va_list ap;

    va_start(ap, format);
    (void)buf_vprintf(&text, format, ap);
    va_end(ap);
    if (code)
        (void)writer_printf(&s->out, "-ERR [%s] %s\r\n", code, buf_cstr(&text));
    else
        (void)writer_printf(&s->out, "-ERR %s\r\n", buf_cstr(&text));
    return POP3_ERR;
}

int pop3_store_err(struct pop3 *s, int error)
{
    switch (error) {
    case -EBUSY:
        return pop3_err(s, "IN-USE", "Another POP3 session has this mailbox open");
    case -EAGAIN:
        return pop3_err(s, "SYS/TEMP", "Another program has locked the mailbox, try again in a moment");
    case -EBADMSG:
        return pop3_err(s, "SYS/PERM", "The mailbox file is not in mbox form and was left alone");
    case -ELOOP:
    case -EPERM:
    case -EACCES:
        return pop3_err(s, "SYS/PERM", "The mailbox is not a plain file of yours that may be opened");
    case -EROFS:
        return pop3_err(s, "SYS/PERM", "The mailbox cannot be changed");
    case -ENOSPC:
    case -EDQUOT:
    case -EFBIG:
        return pop3_err(s, "SYS/TEMP", "There is no disk space left, nothing was removed");
    case -ENODEV:
        return pop3_err(s, "SYS/TEMP", "The folder of the mailbox is not there");
    case -ESTALE:
    case -ENOENT:
        return pop3_err(s, NULL, "The message is no longer there: another program has removed it");
    default:
        return pop3_err(s, "SYS/TEMP", "%s", strerror(-error));
    }
}

/* ---- arguments ---- */

int pop3_no_more(struct pop3 *s, struct str arguments, const char *form)
{
    return str_trim(arguments).len ? pop3_err(s, NULL, "Too many arguments, the form is: %s", form) : 0;
}

int pop3_take_message(struct pop3 *s, struct str *arguments, uint32_t *ret_seq, struct mbox_info *ret)
{
    uint32_t count = mbox_count(s->box), seq;
    struct mbox_info info;
    struct str word;
    int r;

    if (!str_word(arguments, &word))
        return pop3_err(s, NULL, "A message number is missing");
    r = str_to_u32(word, &seq);
    if (r == -EINVAL)
        return pop3_err(s, NULL, "That is not a message number");
    if (r < 0 || seq == 0 || seq > count)
        return pop3_err(s, NULL, "There is no such message, the mailbox has %u", count);
    if (s->marks[seq - 1] & POP3_DELETED)
        return pop3_err(s, NULL, "Message %u is marked as deleted", seq);
    r = mbox_info(s->box, seq, &info);
    if (r < 0)
        return pop3_store_err(s, r);
    *ret_seq = seq;
    *ret = info;
    return 0;
}

/* ---- beginning and end ---- */

int pop3_init(struct pop3 *s, struct conf *conf, struct session *who, int rfd, int wfd)
{
    const struct serve_connection c = {.rfd = rfd,
                                       .wfd = wfd,
                                       .timeout = conf->timeout_pop3,
                                       .line_max = LIMIT_LINE_POP3,
                                       .transport = &s->transport,
                                       .in = &s->in,
                                       .out = &s->out};

    *s = (struct pop3){.conf = conf, .who = who, .end = "error"};
    return serve_connect(&c, conf, who, &s->store);
}

void pop3_release(struct pop3 *s)
{
    int r = mbox_close(s->box);

    s->box = NULL;
    if (r < 0)
        LOG_ERROR(LOG_WARNING, "mailbox_close", r);
}

void pop3_finish(struct pop3 *s)
{
    pop3_release(s);
    serve_log_notices(s->store);
    mbox_store_free(s->store);
    line_reader_finish(&s->in);
    writer_finish(&s->out);
    free(s->marks);
    free(s->sizes);
}

/* The highest message that was read in an earlier session (RFC 1081 LAST). */
static uint32_t highest_seen(struct pop3 *s)
{
    for (uint32_t seq = mbox_count(s->box); seq > 0; seq--) {
        struct mbox_info info;

        if (mbox_info(s->box, seq, &info) == 0 && info.flags.system & MBOX_SEEN)
            return seq;
    }
    return 0;
}

/* The lines that the login stage has left for us. They come from a process that a stranger may have taken over, and go
 * back to that stranger only; still nothing but text is repeated. */
static void read_protocol_data(struct pop3 *s)
{
    struct str rest = buf_str(&s->who->protocol), line;

    for (size_t i = 0; i < s->who->protocol.len; i++) {
        char *c = &s->who->protocol.data[i];

        if (*c != '\n' && (*c < ' ' || *c > '~'))
            *c = ' ';
    }
    while (rest.len) {
        (void)str_cut(&rest, '\n', &line);
        s->is_utf8 |= str_eq(line, STR(POP3_DATA_UTF8));
    }
}

/* RFC 2449 6.5: asked before the maildrop is opened, which is work, and noted when it is open: from then on the delay
 * counts. A user whose login cannot be noted is let in. -EBUSY: answered. */
static int delay_login(struct pop3 *s, bool is_in)
{
    uint32_t wait = 0;
    int r = s->who->is_preauth ? 0 : pop3_policy_login(&s->policy, s->who->state, &s->conf->clock, is_in, &wait);

    if (r == -EBUSY) {
        s->end = "login_delay";
        (void)pop3_err(s, "LOGIN-DELAY", "Please wait %u more seconds between two sessions", wait);
        return r;
    }
    if (r < 0)
        LOG_ERROR(LOG_WARNING, "login_delay", r);
    return 0;
}

static int open_maildrop(struct pop3 *s)
{
    int r = mbox_open(s->store, STR("INBOX"), MBOX_OPEN_POP3, &s->box);

    if (r >= 0)
        r = mbox_view_status(s->box, &s->status);
    if (r < 0)
        return r;
    /* Without its state the store shows the mailbox under UIDs of today: every client would fetch all mail once more.
     */
    if (mbox_is_readonly(s->box) && s->who->state && access(s->who->state, W_OK | X_OK) < 0)
        return -ENOENT;
    s->marks = calloc((size_t)mbox_count(s->box) + 1, 1);
    if (!s->marks)
        return -ENOMEM;
    s->first_last = s->last = highest_seen(s);
    return 0;
}

/* The reply to PASS, APOP or AUTH, which only the session can give since it opens the maildrop (RFC 1939 4); on a pipe
 * it is the greeting. What PAM has to say goes with it. */
static void greet(struct pop3 *s)
{
    _cleanup_buf_ struct buf said = BUF_INIT(WORDS);
    struct str rest = buf_str(&s->who->messages), line;

    while (rest.len) {
        (void)str_cut(&rest, '\n', &line);
        pop3_add_words(&said, line);
        if (line.len)
            (void)buf_add_byte(&said, ' ');
    }
    (void)pop3_ok(s, "%s%s has %u message%s (%llu octets)", buf_cstr(&said), s->who->user, mbox_count(s->box),
                  mbox_count(s->box) == 1 ? "" : "s", (unsigned long long)s->status.size);
}

/* ---- commands ---- */

static int unknown_command(struct pop3 *s)
{
    (void)pop3_err(s, NULL, "Unknown command, there are STAT LIST UIDL RETR TOP DELE RSET LAST NOOP CAPA LANG QUIT");
    return POP3_BAD;
}

static int run_line(struct pop3 *s, struct str line)
{
    const struct command *command;
    struct str rest = line, name;
    int r;

    s->count.commands++;
    if (!str_word(&rest, &name))
        return unknown_command(s);
    r = command_find(commands, ARRAY_SIZE(commands), name, POP3_TRANSACTION, &command);
    return r == -ENOENT ? unknown_command(s) : command->run(s, rest);
}

static int step(struct pop3 *s)
{
    struct str line;
    int r = line_read(&s->in, &line);

    if (r == -ENOBUFS || r == -EBADMSG) {
        (void)pop3_err(s, NULL, r == -ENOBUFS ? "The line is too long" : "The line holds a NUL");
        r = POP3_BAD;
    } else if (r >= 0) {
        r = run_line(s, line);
    }
    if (r < 0)
        return r;
    serve_log_notices(s->store);
    s->bad = r == POP3_BAD ? s->bad + 1 : 0;
    if (s->bad >= LIMIT_BAD_COMMANDS) {
        (void)pop3_err(s, NULL, "Too many lines that are no commands, good bye");
        return -EPROTO;
    }
    return s->out.error;
}

/* An idle client is cut off without a word and without UPDATE (RFC 1939 3), and so is one that was sent half a message.
 */
static const char *end_by(int error)
{
    switch (error) {
    case -ENODATA:
    case -EPIPE:
    case -ECONNRESET:
        return "eof";
    case -ETIMEDOUT:
        return "timeout";
    case -EPROTO:
        return "bad_commands";
    case -ESTALE:
        return "message_vanished";
    default:
        return "error";
    }
}

/* Everything that must be so before the first +OK. 0, or a negative errno after the -ERR. */
static int begin(struct pop3 *s)
{
    const char *key = "";
    int r = pop3_policy_read(s->conf, &s->policy, &key);

    if (r < 0) {
        LOG_ERROR(LOG_ERR, "configuration", r, LOG_FC("key", key));
        (void)pop3_err(s, "SYS/PERM", "The server is not configured properly (%s)", key);
        return r;
    }
    read_protocol_data(s);
    r = delay_login(s, false);
    if (r < 0)
        return r;
    r = open_maildrop(s);
    if (r < 0) {
        LOG_ERROR(LOG_WARNING, "maildrop", r);
        s->end = r == -EBUSY ? "in_use" : "error";
        if (r == -ENOENT || r == -ENOTDIR)
            (void)pop3_err(s, "SYS/PERM", "The folder of the mailbox or its state (%.300s) cannot be used",
                           s->who->state);
        else
            (void)pop3_store_err(s, r);
        return r;
    }
    return delay_login(s, true);
}

int pop3_run(struct pop3 *s)
{
    int r = begin(s);

    if (r < 0) {
        pop3_release(s); /* RFC 1939 4: before the command is rejected */
        (void)writer_flush(&s->out);
        return r;
    }
    greet(s);
    while (r >= 0 && !s->is_leaving)
        r = step(s);
    if (r < 0 && s->box) /* as at QUIT: whoever sees the end of the connection may come back at once */
        mbox_leave(s->box);
    if (serve_end(&s->out) < 0 && r >= 0)
        r = s->out.error;
    if (r < 0)
        s->end = end_by(r);
    return r;
}
