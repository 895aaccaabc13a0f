/*
 * Commands and replies with time-outs. Runs in relay-session.
 */
#include "handlers/relay/wire.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "shared/base/clock.h"

/* Seconds, RFC 5321 4.5.3.2; where it says nothing (EHLO, STARTTLS, AUTH) those of MAIL. */
static const int TIMEOUTS[TALK_PHASES] = {
    [TALK_GREETING] = 300, [TALK_HELLO] = 300, [TALK_STARTTLS] = 300, [TALK_AUTH] = 300,
    [TALK_MAIL] = 300,     [TALK_RCPT] = 300,  [TALK_DATA] = 120,     [TALK_END] = 600,
};
static const char *const PHASES[TALK_PHASES] = {
    [TALK_GREETING] = "waiting for the greeting",
    [TALK_HELLO] = "waiting for the answer to EHLO",
    [TALK_STARTTLS] = "starting TLS",
    [TALK_AUTH] = "logging in",
    [TALK_MAIL] = "waiting for the answer to MAIL",
    [TALK_RCPT] = "waiting for the answer to RCPT",
    [TALK_DATA] = "sending the message",
    [TALK_END] = "waiting for the answer to the message",
};

#define TIMEOUT_BLOCK 180  /* RFC 5321 4.5.3.2.5 */
#define LAST_WORDS_MS 5000 /* for the reason why a server hung up in the middle */
#define RATE_MIN      1024 /* bytes a second: a server that takes less is taken for one that stalls */

static int64_t milliseconds(const struct wire *w, int64_t seconds)
{
    return seconds * 10 * w->percent;
}

void wire_init(struct wire *w, int fd, uint32_t percent)
{
    int64_t block = TIMEOUT_BLOCK * (int64_t)percent / 100;

    *w = (struct wire){.percent = percent};
    /* Reads have their deadline, see wire_reply(). */
    transport_init(&w->transport, fd, fd, 0, block > 0 ? (int)block : 1);
    writer_init(&w->out, &w->transport);
    line_reader_init(&w->in, &w->transport, &w->out, LINE_LENIENT, LINE_BUFFER);
}

void wire_finish(struct wire *w)
{
    client_free(w->tls);
    w->tls = NULL;
    writer_finish(&w->out);
    line_reader_finish(&w->in);
}

void wire_command(struct wire *w, const char *format, ...)
{
    struct buf line = BUF_INIT(WRITER_BUFFER);
    va_list ap;
    int r;

    va_start(ap, format);
    r = buf_vprintf(&line, format, ap);
    va_end(ap);
    if (r == 0)
        r = buf_add(&line, "\r\n", 2);
    if (r == 0)
        r = writer_str(&w->out, buf_str(&line));
    else if (w->out.error == 0)
        w->out.error = r;
    buf_wipe_finish(&line); /* it may carry a password */
}

void wire_drop(struct wire *w, const struct talk_reply *why)
{
    if (!w->is_gone)
        w->lost = *why;
    w->is_gone = true;
}

static int lose(struct wire *w, enum talk_phase phase, int e, struct talk_reply *ret)
{
    struct talk_reply why;

    if (w->parser.fault != REPLY_OK)
        talk_reply_set(&why, phase, 421, "4.5.0", "%s while %s", reply_fault_text(w->parser.fault), PHASES[phase]);
    else if (e == -ETIMEDOUT)
        talk_reply_set(&why, phase, 421, "4.4.2", "timed out while %s", PHASES[phase]);
    else if (e == -ENODATA || e == -EPIPE)
        talk_reply_set(&why, phase, 421, "4.4.2", "connection lost while %s", PHASES[phase]);
    else
        talk_reply_set(&why, phase, 421, "4.4.2", "%s while %s", strerror(-e), PHASES[phase]);
    wire_drop(w, &why);
    *ret = why;
    return e;
}

static int read_reply(struct wire *w, enum talk_phase phase, struct talk_reply *ret)
{
    reply_next(&w->parser);
    if (w->is_gone) {
        *ret = w->lost;
        ret->phase = phase;
        return -EPIPE;
    }
    w->transport.deadline = clock_monotonic_ms() + milliseconds(w, TIMEOUTS[phase]);
    if (writer_flush(&w->out) < 0) { /* the server hung up: perhaps it had said why */
        w->in.writer = NULL;
        w->transport.deadline = clock_monotonic_ms() + LAST_WORDS_MS;
    }
    while (!w->parser.is_done) {
        struct str bytes;
        int r = line_peek(&w->in, &bytes);

        if (r == 0)
            line_consume(&w->in, reply_feed(&w->parser, bytes));
        if (r == 0 && w->parser.fault != REPLY_OK)
            r = -EBADMSG;
        if (r < 0)
            return lose(w, phase, r, ret);
    }
    *ret = w->parser.reply;
    ret->phase = phase;
    w->is_closing |= ret->code == 421;
    if (w->out.error < 0 && ret->code / 100 != 4 && ret->code / 100 != 5)
        return lose(w, phase, w->out.error, ret);
    if (w->out.error < 0)
        wire_drop(w, ret);
    return 0;
}

int wire_reply(struct wire *w, enum talk_phase phase, struct talk_reply *ret)
{
    w->parser.line = NULL;
    return read_reply(w, phase, ret);
}

int wire_reply_ehlo(struct wire *w, struct talk_reply *ret)
{
    w->ehlo = (struct ehlo){0};
    w->parser.line = ehlo_line;
    w->parser.context = &w->ehlo;
    return read_reply(w, TALK_HELLO, ret);
}

void wire_allow(struct wire *w, uint64_t bytes)
{
    w->transport.deadline = clock_monotonic_ms() + milliseconds(w, TIMEOUTS[TALK_END] + (int64_t)(bytes / RATE_MIN));
}
