/*
 * One message on its way in, shared by DATA and BDAT: the trace field on top, the reply at the end. Part of
 * smtp-session.
 */
#include <errno.h>
#include <stdlib.h>

#include "handlers/smtp/author.h"
#include "handlers/smtp/received.h"
#include "handlers/smtp/session.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"

#define TRACE_MAX 4096 /* the longest Received field: every clause has its own limit */

static int write_trace(struct smtp_session *s, struct intake *in)
{
    _cleanup_buf_ struct buf field = BUF_INIT(TRACE_MAX);
    struct received r = {.helo = buf_str(&s->helo),
                         .name = str_from(s->name),
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
                         .priority = s->txn.params.priority,
                         .is_utf8 = s->txn.params.is_utf8,
                         .is_lmtp = s->kind == SMTP_KIND_LMTP,
                         .is_local = s->kind == SMTP_KIND_LOCAL};
    int e = received_format(&r, &s->conf->clock, &field);

    return e < 0 ? e : intake_prepend(in, buf_str(&field));
}

/* RFC 6409 8.1, 8.3 (RFC 4409 the same): what a submission may lack. */
static int prepare_missing(struct smtp_session *s, struct intake *in)
{
    int e;

    in->adds_fields = s->kind == SMTP_KIND_SUBMISSION || s->kind == SMTP_KIND_LOCAL;
    if (!in->adds_fields)
        return 0;
    if (s->kind == SMTP_KIND_SUBMISSION) { /* sendmail(8) looks after it where it must, and programs send for others */
        in->judge = author_judge;
        in->header.from_text = &s->message.from;
        in->header.sender_text = &s->message.sender;
    }
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
    if (s->txn.params.body == QUEUE_BODY_BINARYMIME)
        return DATA_BINARY;
    if (s->is_lenient)
        return DATA_LENIENT;
    return str_ieq(str_from(s->conf->smtp_bare_newline), STR("normalize")) ? DATA_NORMALIZE : DATA_STRICT;
}

static void explain_refusal(const struct smtp_message *m, int e, struct smtp_answer *ret)
{
    const struct data_reader *d = &m->reader;

    if (d->faults & DATA_NUL)
        answer_set(ret, 550, "5.6.0", "The message has a NUL byte");
    else if (d->faults != 0)
        answer_set(ret, 550, "5.5.2", "The message has a bare CR or LF");
    else if (e == -EPERM && m->refusal.code != 0)
        *ret = m->refusal;
    else if (e == -EFBIG)
        answer_set(ret, 552, "5.3.4", "The message is too big");
    else if (e == -ENOSPC || e == -EDQUOT)
        answer_set(ret, 452, "4.3.1", "No room for the message now");
    else if (e == -ELOOP)
        answer_set(ret, 554, "5.4.6", "The message goes in circles: too many Received fields");
    else if (e == -EBADMSG)
        answer_set(ret, 550, "5.6.0", "The message has no proper header");
    else if (e == -EPROTO)
        answer_set(ret, 550, "5.6.0", "The message must have one From field with an address, and one Sender at most");
    else if (e == -EKEYREJECTED)
        answer_set(ret, 550, "5.7.1", "Neither From nor Sender of the message is an address of yours");
    else
        answer_set(ret, 451, "4.3.0", "The message could not be stored");
}

/* Says so to each recipient in LMTP if this was the last of it (RFC 2033 4.2, 4.3), else once. */
static void refuse(struct smtp_session *s, const struct smtp_answer *answer, bool is_last)
{
    size_t replies = s->kind == SMTP_KIND_LMTP && is_last ? s->txn.recipients : 1;

    LOG_EVENT(LOG_NOTICE, "message-refused", {"queue_id", buf_str(&s->txn.id)}, {"from", buf_str(&s->txn.sender)},
              LOG_FC("reply", answer->text));
    for (size_t i = 0; i < replies; i++)
        session_answer(s, answer);
}

static unsigned traits_of(const struct smtp_session *s)
{
    const struct smtp_message *m = &s->message;

    return (m->reader.has_8bit ? CONTENT_8BIT : 0u) |
           (m->in.header.fields & HEADER_TLS_OPTIONAL ? CONTENT_TLS_OPTIONAL : 0u);
}

static int deliver_message(struct smtp_session *s)
{
    size_t count = s->txn.recipients;
    _cleanup_free_ struct smtp_answer *answers = calloc(count, sizeof(*answers));
    struct smtp_content content;
    int e;

    if (!answers) {
        session_reply(s, 451, "4.3.0", "Out of memory");
        return 0;
    }
    content = (struct smtp_content){.traits = traits_of(s)};
    if (s->message.in.fd < 0)
        content.text = buf_str(&s->message.in.out);
    e = s->backend.commit(s->backend.context, &content, answers, count);
    if (e < 0)
        return e;
    s->state = SMTP_GREETED; /* the transaction is over, and nobody needs to be told */
    s->messages++;
    if (s->kind == SMTP_KIND_LMTP) { /* RFC 2033 4.2: one reply for each */
        for (size_t i = 0; i < count; i++)
            session_answer(s, &answers[i]);
        return 0;
    }
    session_answer(s, &answers[0]);
    return 0;
}

static int enlarge(void *session, int *ret_fd)
{
    struct smtp_session *s = session;
    struct smtp_answer *answer = &s->message.refusal;
    int e = s->backend.larger(s->backend.context, answer, ret_fd);

    return e < 0 || answer_is_ok(answer) ? e : -EPERM;
}

void message_open(struct smtp_session *s, bool is_counted)
{
    struct smtp_message *m = &s->message;
    int e;

    m->is_open = true;
    m->refusal.code = 0;
    m->from = m->sender = (struct buf)BUF_INIT(AUTHOR_TEXT);
    intake_init(&m->in);
    m->in.enlarge = enlarge;
    m->in.context = s;
    data_init(&m->reader, mode_of(s), intake_write, &m->in);
    m->in.is_binary = m->reader.mode == DATA_BINARY;
    m->reader.is_counted = is_counted;
    e = write_trace(s, &m->in);
    m->reader.error = e < 0 ? e : prepare_missing(s, &m->in);
}

size_t message_feed(struct smtp_session *s, struct str bytes)
{
    struct data_reader *d = &s->message.reader;
    size_t used = data_feed(d, bytes);

    if (d->error == 0 && d->size > s->conf->message_size)
        d->error = -EFBIG;
    return used;
}

bool message_is_spoiled(const struct smtp_session *s)
{
    return s->message.reader.error < 0 || s->message.reader.faults != 0;
}

int message_finish(struct smtp_session *s, bool is_last)
{
    struct smtp_message *m = &s->message;
    struct smtp_answer answer;
    int e = m->reader.error;

    if (!message_is_spoiled(s))
        e = intake_end(&m->in);
    if (e == 0 && m->reader.faults == 0)
        return deliver_message(s);
    explain_refusal(m, e, &answer);
    refuse(s, &answer, is_last);
    return 0;
}

void message_close(struct smtp_session *s)
{
    if (!s->message.is_open)
        return;
    intake_finish(&s->message.in);
    buf_finish(&s->message.from);
    buf_finish(&s->message.sender);
    s->message.is_open = false;
}
