/*
 * DATA: from 354 to the one reply that says what became of the message. Part of smtp-session.
 */
#include <errno.h>
#include <stdlib.h>

#include "handlers/smtp/data.h"
#include "handlers/smtp/intake.h"
#include "handlers/smtp/received.h"
#include "handlers/smtp/session.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"

#define TRACE_MAX 4096 /* the longest Received field: every clause has its own limit */

static int write_trace(struct smtp_session *s, struct intake *in)
{
    _cleanup_buf_ struct buf field = BUF_INIT(TRACE_MAX);
    struct received r = {.helo = buf_str(&s->helo),
                         .peer = str_from(s->peer),
                         .by = str_from(s->conf->hostname),
                         .id = buf_str(&s->txn.id),
                         .recipient = s->txn.recipients == 1 ? buf_str(&s->txn.recipient) : STR(""),
                         .cipher = str_from(s->cipher),
                         .uid = s->uid,
                         .when = clock_now(&s->conf->clock),
                         .is_esmtp = s->is_esmtp,
                         .is_tls = s->is_tls,
                         .is_authenticated = s->user != NULL,
                         .is_utf8 = s->txn.params.is_utf8,
                         .is_lmtp = s->kind == SMTP_KIND_LMTP};
    int e = received_format(&r, &s->conf->clock, &field);

    return e < 0 ? e : intake_prepend(in, buf_str(&field));
}

/* RFC 6409 8.1, 8.3 (RFC 4409 the same): what a submission may lack. */
static int prepare_missing(struct smtp_session *s, struct intake *in)
{
    int e;

    in->adds_fields = s->kind == SMTP_KIND_SUBMISSION;
    if (!in->adds_fields)
        return 0;
    e = buf_add_str(&in->missing, STR("Date: "));
    if (e == 0)
        e = clock_rfc5322(&s->conf->clock, clock_now(&s->conf->clock), &in->missing);
    if (e == 0)
        e = buf_add_byte(&in->missing, '\n');
    if (e == 0)
        e = buf_printf(&in->missing_id, "Message-ID: <%s@%s>\n", buf_cstr(&s->txn.id), s->conf->hostname);
    return e;
}

static enum data_mode mode_of(const struct smtp_session *s)
{
    if (s->is_pipe)
        return DATA_LENIENT;
    return str_ieq(str_from(s->conf->smtp_bare_newline), STR("normalize")) ? DATA_NORMALIZE : DATA_STRICT;
}

/* Reads to the end of the data, whatever happens to the message. 0, or the connection's error. */
static int read_message(struct smtp_session *s, struct data_reader *d)
{
    struct str bytes;
    int e;

    while (!d->is_end) {
        e = line_peek(&s->reader, &bytes);
        if (e < 0)
            return e;
        line_consume(&s->reader, data_feed(d, bytes));
        if (d->error == 0 && d->size > s->conf->message_size)
            d->error = -EFBIG;
    }
    return 0;
}

static void explain_refusal(const struct data_reader *d, int e, struct smtp_answer *ret)
{
    if (d->faults & DATA_NUL)
        answer_set(ret, 550, "5.6.0", "The message has a NUL byte");
    else if (d->faults != 0)
        answer_set(ret, 550, "5.5.2", "The message has a bare CR or LF");
    else if (e == -EFBIG)
        answer_set(ret, 552, "5.3.4", "The message is too big");
    else if (e == -ENOSPC || e == -EDQUOT)
        answer_set(ret, 452, "4.3.1", "No room for the message now");
    else if (e == -ELOOP)
        answer_set(ret, 554, "5.4.6", "The message goes in circles: too many Received fields");
    else if (e == -EBADMSG)
        answer_set(ret, 550, "5.6.0", "The message has no proper header");
    else
        answer_set(ret, 451, "4.3.0", "The message could not be stored");
}

static void refuse_message(struct smtp_session *s, const struct data_reader *d, int e)
{
    struct smtp_answer answer;
    size_t replies = s->kind == SMTP_KIND_LMTP ? s->txn.recipients : 1; /* RFC 2033 4.2 */

    explain_refusal(d, e, &answer);
    LOG_EVENT(LOG_NOTICE, "message-refused", {"queue_id", buf_str(&s->txn.id)}, {"from", buf_str(&s->txn.sender)},
              LOG_FC("reply", answer.text));
    for (size_t i = 0; i < replies; i++)
        session_answer(s, &answer);
}

/* One reply for all recipients. With no queue to keep the rest, the reply must not hide a failure. */
static void summarize(const struct smtp_session *s, const struct smtp_answer *answers, size_t count,
                      struct smtp_answer *ret)
{
    size_t ok = 0, worst = 0;

    for (size_t i = 0; i < count; i++) {
        if (answer_is_ok(&answers[i]))
            ok++;
        else if (answer_is_ok(&answers[worst]) || answer_is_temporary(&answers[i]))
            worst = i;
    }
    *ret = answers[worst];
    if (ok == count)
        answer_set(ret, 250, "2.0.0", "Delivered, id %s", buf_cstr(&s->txn.id));
    else if (ok > 0)
        answer_set(ret, answers[worst].code, answers[worst].enhanced, "Delivered to %zu of %zu recipients: %s", ok,
                   count, answers[worst].text);
}

static int deliver_message(struct smtp_session *s)
{
    size_t count = s->txn.recipients;
    _cleanup_free_ struct smtp_answer *answers = calloc(count, sizeof(*answers));
    struct smtp_answer all;
    int e;

    if (!answers) {
        session_reply(s, 451, "4.3.0", "Out of memory");
        return 0;
    }
    e = s->backend.commit(s->backend.context, answers, count);
    if (e < 0)
        return e;
    s->messages++;
    if (s->kind == SMTP_KIND_LMTP) { /* RFC 2033 4.2: one reply for each */
        for (size_t i = 0; i < count; i++)
            session_answer(s, &answers[i]);
        return 0;
    }
    summarize(s, answers, count, &all);
    session_answer(s, &all);
    return 0;
}

/* `fd`: the message file. */
static int take_message(struct smtp_session *s, int fd)
{
    struct intake in;
    struct data_reader d;
    int e, failure;

    intake_init(&in, fd);
    data_init(&d, mode_of(s), intake_write, &in);
    d.error = write_trace(s, &in);
    if (d.error == 0)
        d.error = prepare_missing(s, &in);
    e = read_message(s, &d);
    failure = d.error;
    if (e == 0 && failure == 0 && d.faults == 0)
        failure = intake_end(&in);
    intake_finish(&in);
    if (e < 0)
        return e;
    if (failure < 0 || d.faults != 0)
        refuse_message(s, &d, failure);
    else
        e = deliver_message(s);
    return e;
}

int cmd_data(void *session, struct str arguments)
{
    struct smtp_session *s = session;
    _cleanup_close_ int fd = -1;
    struct smtp_answer answer;
    int e;

    if (arguments.len > 0) {
        session_reply(s, 501, "5.5.4", "DATA stands alone");
        return 0;
    }
    if (!session_in_sync(s))
        return 0;
    e = s->backend.data(s->backend.context, &answer, &fd);
    if (e < 0)
        return e;
    session_answer(s, &answer);
    if (answer_is_ok(&answer)) {
        e = take_message(s, fd);
        if (e == -ETIMEDOUT)
            session_reply(s, 421, "4.4.2", "%s nothing heard for too long", s->conf->hostname);
        if (e == -ENODATA || e == -EPIPE || e == -ECONNRESET || e == -ETIMEDOUT) {
            s->is_over = true; /* the client is gone, and so is the message */
            s->error = e;
            return 0;
        }
    }
    if (e == 0)
        session_reset(s);
    return e;
}
