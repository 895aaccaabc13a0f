/*
 * MAIL, RCPT, DATA or BDAT. Runs in relay-session.
 */
#include "handlers/relay/deal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/clock.h"
#include "shared/base/macros.h"
#include "shared/mime/content.h"
#include "shared/mime/convert.h"

#define GROUP_BYTES                                                                                                    \
    8192 /* of RCPTs sent before their answers are read: both sides' windows hold that (RFC 2920 3.1)                  \
          */

/* As in RFC 3461 4.1; the bits of struct talk_rcpt. */
enum notify {
    NOTIFY_NEVER = 1u << 0,
    NOTIFY_SUCCESS = 1u << 1,
    NOTIFY_FAILURE = 1u << 2,
    NOTIFY_DELAY = 1u << 3,
};

/* How the message goes, settled before MAIL. */
struct way {
    struct content_facts facts;
    struct convert convert;
    bool is_converted;
    bool is_chunked; /* BDAT: nothing is stuffed, and no end of data can be hidden in it */
    bool is_utf8;
    const char *body; /* of the BODY parameter, or NULL */
};

int deal_begin(struct deal *d, const struct talk_mail *mail, int message)
{
    int r;

    *d = (struct deal){.mail = *mail, .text = BUF_INIT(LIMIT_LINE_SMTP), .message = message};
    d->by_at = clock_monotonic_ms() + mail->by_seconds * 1000;
    r = buf_reserve(&d->text, mail->sender.len + mail->envid.len);
    if (r == 0)
        r = buf_add_str(&d->text, mail->sender);
    if (r == 0)
        r = buf_add_str(&d->text, mail->envid);
    d->rcpts = calloc(mail->count, sizeof(*d->rcpts));
    d->mail.sender = str_sub(buf_str(&d->text), 0, mail->sender.len);
    d->mail.envid = str_sub(buf_str(&d->text), mail->sender.len, mail->envid.len);
    return r < 0 ? r : d->rcpts ? 0 : -ENOMEM;
}

int deal_add(struct deal *d, const struct talk_rcpt *rcpt)
{
    struct deal_rcpt *r = &d->rcpts[d->count];

    r->address = str_dup(rcpt->address);
    r->orcpt = str_dup(rcpt->orcpt);
    r->notify = rcpt->notify;
    d->count++;
    return r->address && r->orcpt ? 0 : -ENOMEM;
}

void deal_finish(struct deal *d)
{
    for (uint32_t i = 0; d->rcpts && i < d->count; i++) {
        free(d->rcpts[i].address);
        free(d->rcpts[i].orcpt);
    }
    free(d->rcpts);
    buf_finish(&d->text);
    close_fd(&d->message);
}

/* The same for all that are still open. */
static void settle(struct deal *d, const struct talk_reply *reply)
{
    for (uint32_t i = 0; i < d->count; i++)
        if (d->rcpts[i].is_open) {
            d->rcpts[i].reply = *reply;
            d->rcpts[i].is_open = false;
        }
}

static void settle_ours(struct deal *d, unsigned code, const char *enhanced, const char *text)
{
    struct talk_reply reply;

    talk_reply_set(&reply, TALK_MAIL, code, enhanced, "%s", text);
    settle(d, &reply);
}

static bool is_any_open(const struct deal *d)
{
    for (uint32_t i = 0; i < d->count; i++)
        if (d->rcpts[i].is_open)
            return true;
    return false;
}

static bool is_ascii(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] > 127)
            return false;
    return true;
}

/* ---- what the server must be able to do ---- */

/* RFC 6531 3.2: without the extension such a message cannot go on, unless there is nothing international in it. */
static void check_utf8(struct deal *d, struct way *way, uint32_t extensions)
{
    struct talk_reply reply;

    way->is_utf8 = d->mail.is_utf8 && (extensions & TALK_SMTPUTF8);
    if (!d->mail.is_utf8 || way->is_utf8)
        return;
    talk_reply_set(&reply, TALK_MAIL, 550, "5.6.7",
                   "the message or an address is in UTF-8, and the server does not take that (SMTPUTF8)");
    for (uint32_t i = 0; i < d->count; i++)
        if (way->facts.has_8bit_header || !is_ascii(d->mail.sender) || !is_ascii(str_from(d->rcpts[i].address)) ||
            !is_ascii(str_from(d->rcpts[i].orcpt))) {
            d->rcpts[i].reply = reply;
            d->rcpts[i].is_open = false;
        }
}

static int choose_body(struct deal *d, struct way *way, uint32_t extensions)
{
    bool is_binary = d->mail.body == TALK_BODY_BINARY;
    bool is_8bit = is_binary || way->facts.has_8bit_body || way->facts.has_8bit_header;
    int r = 0;

    way->is_chunked = (extensions & TALK_CHUNKING) != 0;
    if (is_binary && way->is_chunked && (extensions & TALK_BINARYMIME)) {
        way->body = "BINARYMIME";
    } else if (is_8bit && (extensions & TALK_8BITMIME)) {
        way->body = "8BITMIME";
        /* RFC 6533 4.5. What others made is theirs, and may have a signature. */
        if (d->mail.is_report && !(extensions & TALK_SMTPUTF8))
            r = convert_plan(d->message, CONVERT_GLOBAL, &way->convert);
    } else if (way->facts.has_8bit_body) {
        r = convert_plan(d->message, CONVERT_7BIT, &way->convert);
    }
    way->is_converted = r == 0 && way->convert.edits && (way->convert.count > 0 || !way->body);
    if (way->is_converted)
        way->is_chunked = false; /* its size is not known beforehand */
    d->is_converted = way->is_converted;
    return r;
}

/* ---- DELIVERBY ---- */

static int64_t by_left(const struct deal *d)
{
    return (d->by_at - clock_monotonic_ms()) / 1000;
}

/* RFC 2852 4.1.4.1: what is to come back in time goes to nobody who does not promise that. */
static void check_by(struct deal *d, const struct ehlo *ehlo)
{
    struct talk_reply reply;
    int64_t left = by_left(d);

    if (d->mail.by != TALK_BY_RETURN)
        return;
    if (left <= 0)
        talk_reply_set(&reply, TALK_MAIL, 554, "5.4.7", "the time in which the message was to be delivered is over");
    else if (!(ehlo->extensions & TALK_DELIVERBY))
        talk_reply_set(&reply, TALK_MAIL, 554, "5.3.3",
                       "the message is to be delivered in time or returned, and the server knows nothing of that "
                       "(DELIVERBY)");
    else if (left < (int64_t)ehlo->by_least)
        talk_reply_set(&reply, TALK_MAIL, 554, "5.4.7",
                       "the message is to be delivered in %lld seconds, and the server wants %u at least",
                       (long long)left, ehlo->by_least);
    else
        return;
    settle(d, &reply);
}

/* RFC 2852 4.1.4.2: a server that knows nothing of the wish is at least asked to tell of delays, unless the sender
 * wants to hear nothing. */
static uint32_t notify_of(const struct deal *d, const struct deal_rcpt *r, const struct ehlo *ehlo)
{
    if (d->mail.by != TALK_BY_NOTIFY || (ehlo->extensions & TALK_DELIVERBY) || r->notify & NOTIFY_NEVER)
        return r->notify;
    return (r->notify ? r->notify : NOTIFY_FAILURE) | NOTIFY_DELAY;
}

/* Settles the recipients for whom it cannot be done. */
static void choose(struct deal *d, const struct wire *w, struct way *way)
{
    uint32_t extensions = w->ehlo.extensions;
    char text[120];
    int r = content_scan(d->message, &way->facts);

    if (r == 0)
        check_utf8(d, way, extensions);
    if (r == 0)
        r = choose_body(d, way, extensions);
    if (r == -ENOTSUP)
        settle_ours(d, 554, "5.6.3",
                    "the message has 8-bit parts, which the server does not take (8BITMIME), and they "
                    "cannot be converted");
    else if (r < 0)
        settle_ours(d, 451, "4.3.0", strerror(-r));
    /* RFC 8689 4.2.1; 5 for the null path: reports are not lost by it. */
    if (d->mail.is_requiretls && (!w->tls || !(extensions & TALK_REQUIRETLS))) {
        d->mail.is_requiretls = false;
        if (d->mail.sender.len > 0)
            settle_ours(d, 550, "5.7.30",
                        "the message demands TLS all the way (REQUIRETLS), which the server does not have");
    }
    check_by(d, &w->ehlo);
    if (w->ehlo.size > 0 && way->facts.size > w->ehlo.size) {
        (void)snprintf(text, sizeof(text), "the message has %llu octets and the server takes %llu",
                       (unsigned long long)way->facts.size, (unsigned long long)w->ehlo.size);
        settle_ours(d, 552, "5.3.4", text);
    }
}

/* ---- MAIL and RCPT ---- */

static void say_mail(const struct deal *d, struct wire *w, const struct way *way)
{
    static const char *const rets[] = {
        [TALK_RET_UNSET] = "", [TALK_RET_FULL] = " RET=FULL", [TALK_RET_HDRS] = " RET=HDRS"};
    bool has_dsn = (w->ehlo.extensions & TALK_DSN) != 0;
    char size[32] = "", envid[128] = "", by[32] = "";

    if (w->ehlo.extensions & TALK_SIZE)
        (void)snprintf(size, sizeof(size), " SIZE=%llu", (unsigned long long)way->facts.size);
    if (has_dsn && d->mail.envid.len > 0)
        (void)snprintf(envid, sizeof(envid), " ENVID=%.*s", STR_ARG(d->mail.envid));
    if (d->mail.by != TALK_BY_NONE && (w->ehlo.extensions & TALK_DELIVERBY))
        (void)snprintf(by, sizeof(by), " BY=%lld;%s%s", (long long)by_left(d), d->mail.by == TALK_BY_RETURN ? "R" : "N",
                       d->mail.by_trace ? "T" : "");
    wire_command(w, "MAIL FROM:<%.*s>%s%s%s%s%s%s%s%s", STR_ARG(d->mail.sender), size, way->body ? " BODY=" : "",
                 way->body ? way->body : "", way->is_utf8 ? " SMTPUTF8" : "", has_dsn ? rets[d->mail.ret] : "", envid,
                 d->mail.is_requiretls ? " REQUIRETLS" : "", by);
}

static const char *notify_text(uint32_t notify, char out[static 40])
{
    if (notify == 0)
        return "";
    if (notify & NOTIFY_NEVER)
        return " NOTIFY=NEVER";
    (void)snprintf(out, 40, " NOTIFY%s%s%s", notify & NOTIFY_SUCCESS ? "=SUCCESS" : "",
                   notify & NOTIFY_FAILURE ? (notify & NOTIFY_SUCCESS ? ",FAILURE" : "=FAILURE") : "",
                   notify & NOTIFY_DELAY ? (notify & (NOTIFY_SUCCESS | NOTIFY_FAILURE) ? ",DELAY" : "=DELAY") : "");
    return out;
}

static void say_rcpt(const struct deal *d, const struct deal_rcpt *r, struct wire *w)
{
    char notify[40];

    if (w->ehlo.extensions & TALK_DSN)
        wire_command(w, "RCPT TO:<%s>%s%s%s", r->address, notify_text(notify_of(d, r, &w->ehlo), notify),
                     r->orcpt[0] ? " ORCPT=" : "", r->orcpt);
    else
        wire_command(w, "RCPT TO:<%s>", r->address);
}

/* RFC 5321 4.5.3.1.10: 552 to a RCPT is an old way to say 452, too many recipients, where it does not say what it is.
 */
static void mend_rcpt_reply(struct talk_reply *r)
{
    if (r->code == 552 && (strcmp(r->enhanced, "5.0.0") == 0 || strcmp(r->enhanced, "5.5.3") == 0)) {
        r->code = 452;
        (void)snprintf(r->enhanced, sizeof(r->enhanced), "4.5.3");
    }
}

/* An answer that has no place there. */
static void mend_class(struct talk_reply *r)
{
    if (r->code / 100 != 3)
        return;
    r->code = 451;
    (void)snprintf(r->enhanced, sizeof(r->enhanced), "4.5.0");
}

/* The answer to one RCPT. False: the connection is gone. */
static bool hear_rcpt(struct deal_rcpt *rcpt, struct wire *w)
{
    if (!rcpt->is_open)
        return true;

    int r = wire_reply(w, TALK_RCPT, &rcpt->reply);

    mend_rcpt_reply(&rcpt->reply);
    mend_class(&rcpt->reply);
    rcpt->is_open = r == 0 && rcpt->reply.code / 100 == 2;
    return r == 0;
}

/* The envelope without PIPELINING: each command waits for the answer to the one before. 0, or -ECANCELED. */
static int envelope_slowly(struct deal *d, struct wire *w, const struct way *way)
{
    struct talk_reply last; /* 421 says it for all that come behind */

    say_mail(d, w, way);
    if (wire_reply(w, TALK_MAIL, &last) < 0 || last.code / 100 != 2) {
        mend_class(&last);
        settle(d, &last);
        return -ECANCELED;
    }
    for (uint32_t i = 0; i < d->count; i++) {
        if (!d->rcpts[i].is_open)
            continue;
        if (!w->is_gone && !w->is_closing)
            say_rcpt(d, &d->rcpts[i], w);
        else if (w->is_closing)
            wire_drop(w, &last);
        (void)hear_rcpt(&d->rcpts[i], w);
        last = d->rcpts[i].reply;
    }
    return 0;
}

/* RFC 2920: groups of commands, each group's answers read before the next one goes. DATA ends the last group, except
 * with BDAT; *ret_data says that it was sent. */
static int envelope_pipelined(struct deal *d, struct wire *w, const struct way *way, bool *ret_data)
{
    struct talk_reply mail = {0};
    uint32_t sent = 0, heard = 0;

    *ret_data = false;
    say_mail(d, w, way);
    while (heard < d->count && !w->is_closing) {
        size_t bytes = 0;

        for (; sent < d->count && bytes < GROUP_BYTES; sent++)
            if (d->rcpts[sent].is_open) {
                say_rcpt(d, &d->rcpts[sent], w);
                bytes += strlen(d->rcpts[sent].address) + strlen(d->rcpts[sent].orcpt) + 64;
            }
        if (sent == d->count && !way->is_chunked) {
            wire_command(w, "DATA");
            *ret_data = true;
        }
        if (heard == 0 && mail.code == 0)
            (void)wire_reply(w, TALK_MAIL, &mail);
        for (; heard < sent; heard++)
            (void)hear_rcpt(&d->rcpts[heard], w);
    }
    if (mail.code / 100 == 2)
        return 0;
    /* The answers to the RCPTs of a refused MAIL say only that (503), or nonsense. */
    mend_class(&mail);
    for (uint32_t i = 0; i < d->count; i++)
        if (!d->rcpts[i].reply.is_ours || w->is_gone)
            d->rcpts[i].is_open = true;
    settle(d, &mail);
    return -ECANCELED;
}

/* ---- the message ---- */

static int send_bytes(void *context, struct str bytes)
{
    struct wire *w = context;

    return writer_str(&w->out, bytes);
}

static int send_content(struct deal *d, struct wire *w, const struct way *way, content_sink *sink, void *context)
{
    return way->is_converted ? convert_read(d->message, &way->convert, sink, context)
                             : content_read(d->message, sink, context);
}

/* The file could not be read to its end: the server must not take the half for the whole, so the connection is cut. */
static void cut(struct deal *d, struct wire *w, int e)
{
    struct talk_reply reply;

    talk_reply_set(&reply, TALK_DATA, 451, "4.3.0", "the message cannot be read: %s", strerror(-e));
    wire_drop(w, &reply);
    settle(d, &reply);
}

/* The answer to the whole message. */
static void hear_end(struct deal *d, struct wire *w, bool is_sent)
{
    struct talk_reply reply;

    if (wire_reply(w, is_sent ? TALK_END : TALK_DATA, &reply) == 0 && !is_sent && reply.code / 100 == 2)
        talk_reply_set(&reply, TALK_DATA, 451, "4.5.0", "the server said yes before it had the message");
    mend_class(&reply);
    settle(d, &reply);
}

static void send_message(struct deal *d, struct wire *w, const struct way *way)
{
    struct content_stuffer stuffer = {.sink = send_bytes, .context = w};
    int r;

    wire_allow(w, way->facts.size);
    if (way->is_chunked) {
        wire_command(w, "BDAT %llu LAST", (unsigned long long)way->facts.size);
        r = send_content(d, w, way, send_bytes, w);
    } else {
        r = send_content(d, w, way, content_stuff, &stuffer);
        if (r == 0)
            r = writer_text(&w->out, ".\r\n");
    }
    if (r < 0 && w->out.error == 0) {
        cut(d, w, r);
        return;
    }
    hear_end(d, w, r == 0 && writer_flush(&w->out) == 0);
}

/* DATA was said (or not, with BDAT): the rest of the transaction. */
static void message(struct deal *d, struct wire *w, const struct way *way, bool is_data_said)
{
    struct talk_reply reply;

    if (!way->is_chunked) {
        if (!is_data_said)
            wire_command(w, "DATA");
        if (wire_reply(w, TALK_DATA, &reply) < 0 || reply.code != 354) {
            if (reply.code / 100 == 2 || reply.code / 100 == 3)
                talk_reply_set(&reply, TALK_DATA, 451, "4.5.0", "the server answers DATA with something else than 354");
            settle(d, &reply);
            return;
        }
        if (!is_any_open(d)) { /* RFC 2920 3.1: it waits for a message although nobody is to have it */
            wire_command(w, ".");
            (void)wire_reply(w, TALK_END, &reply);
            return;
        }
    }
    send_message(d, w, way);
}

/* Leaves the connection as it was before MAIL. */
static void reset(struct wire *w)
{
    struct talk_reply reply;

    if (w->is_gone || w->is_closing)
        return;
    wire_command(w, "RSET");
    if (wire_reply(w, TALK_MAIL, &reply) == 0 && reply.code / 100 != 2)
        wire_drop(w, &reply);
}

static void transact(struct deal *d, struct wire *w, const struct way *way)
{
    bool is_data_said = false;
    int r = w->ehlo.extensions & TALK_PIPELINING ? envelope_pipelined(d, w, way, &is_data_said)
                                                 : envelope_slowly(d, w, way);

    if (w->is_gone || w->is_closing) {
        if (w->is_closing && !w->is_gone)
            settle_ours(d, 421, "4.4.2", "the server closed the connection before it had the message");
        else
            settle(d, &w->lost);
        return;
    }
    if (is_data_said || (r == 0 && is_any_open(d)))
        message(d, w, way, is_data_said);
    else
        reset(w);
}

void deal_run(struct deal *d, struct wire *w)
{
    struct way way = {0};

    for (uint32_t i = 0; i < d->count; i++)
        d->rcpts[i].is_open = true;
    if (w->is_gone)
        settle(d, &w->lost);
    else
        choose(d, w, &way);
    if (is_any_open(d))
        transact(d, w, &way);
    convert_finish(&way.convert);
}
