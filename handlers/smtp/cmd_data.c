/*
 * DATA (RFC 5321 4.1.1.4) and BDAT (RFC 3030). Part of smtp-session.
 */
#include <errno.h>

#include "handlers/smtp/session.h"

/* The client broke off: the message is gone with it. Other errors are ours. */
static int connection_lost(struct smtp_session *s, int e)
{
    message_close(s);
    if (e == -ETIMEDOUT)
        session_reply(s, 421, "4.4.2", "%s nothing heard for too long", s->conf->hostname);
    s->is_over = true;
    s->error = e;
    return 0;
}

/* Reads to the end of the data, whatever happens to the message. 0, or the connection's error. */
static int read_dotted(struct smtp_session *s)
{
    struct str bytes;
    int e;

    while (!s->message.reader.is_end) {
        e = line_peek(&s->reader, &bytes);
        if (e < 0)
            return e;
        line_consume(&s->reader, message_feed(s, bytes));
    }
    return 0;
}

int cmd_data(void *session, struct str arguments)
{
    struct smtp_session *s = session;
    int e;

    if (arguments.len > 0) {
        session_reply(s, 501, "5.5.4", "DATA stands alone");
        return 0;
    }
    if (s->txn.params.body == QUEUE_BODY_BINARYMIME) { /* RFC 3030 3 */
        session_reply(s, 503, "5.5.1", "BODY=BINARYMIME needs BDAT");
        return 0;
    }
    if (!session_in_sync(s))
        return 0;
    message_open(s, false);
    session_reply(s, 354, "", "Go ahead, end with a lone dot");
    e = read_dotted(s);
    if (e < 0)
        return connection_lost(s, e);
    e = message_finish(s, true);
    message_close(s);
    session_reset(s);
    return e < 0 ? e : 0;
}

/* "size" or "size LAST" */
static int parse_chunk(struct str arguments, uint64_t *ret_size, bool *ret_is_last)
{
    struct str size, last = STR_NULL;

    if (!str_word(&arguments, &size) || str_to_u64(size, ret_size) < 0)
        return -EINVAL;
    *ret_is_last = str_word(&arguments, &last);
    return (last.len > 0 && !str_ieq(last, STR("LAST"))) || str_trim(arguments).len > 0 ? -EINVAL : 0;
}

/* Reads exactly `size` octets; `takes`: into the message, else they are dropped. */
static int read_chunk(struct smtp_session *s, uint64_t size, bool takes)
{
    struct str bytes;
    int e;

    while (size > 0) {
        e = line_peek(&s->reader, &bytes);
        if (e < 0)
            return e;
        if (bytes.len > size)
            bytes.len = (size_t)size;
        if (takes)
            (void)message_feed(s, bytes);
        size -= bytes.len;
        line_consume(&s->reader, bytes.len);
    }
    return 0;
}

/* The transaction is over, whatever chunks of it are still to come. */
static void end_transaction(struct smtp_session *s, bool is_last)
{
    size_t recipients = s->txn.recipients;

    session_reset(s);
    s->lost = is_last ? 0 : recipients;
}

/* The chunk is in the message. */
static int end_chunk(struct smtp_session *s, uint64_t size, bool is_last)
{
    int e = 0;

    if (!is_last && !message_is_spoiled(s)) {
        session_reply(s, 250, "2.0.0", "%llu octets", (unsigned long long)size);
        return 0;
    }
    data_end_counted(&s->message.reader);
    e = message_finish(s, is_last);
    message_close(s);
    end_transaction(s, is_last);
    return e;
}

/* RFC 2033 4.3: a reply for each recipient, of whom there may be none. */
static void refuse_last(struct smtp_session *s)
{
    size_t replies = s->state == SMTP_MAIL ? 0 : s->lost > 0 ? s->lost : 1;

    session_reset(s);
    for (size_t i = 0; i < replies; i++)
        session_reply(s, 503, "5.5.1", "BDAT needs an accepted RCPT");
}

/* What was not taken has been read (RFC 3030 2), and is answered now. */
static void refuse_chunk(struct smtp_session *s, bool is_last)
{
    if (s->kind == SMTP_KIND_LMTP && is_last)
        refuse_last(s);
    else
        session_reply(s, 503, "5.5.1", "BDAT needs an accepted RCPT");
}

int cmd_bdat(void *session, struct str arguments)
{
    struct smtp_session *s = session;
    uint64_t size = 0;
    bool is_last = false;
    int e;

    /* What follows an unreadable size cannot be told from commands. */
    if (!s->is_esmtp || parse_chunk(arguments, &size, &is_last) < 0) {
        session_reply(s, 501, "5.5.4", "Like BDAT size [LAST]");
        s->is_over = true;
        s->error = -EPROTO;
        return 0;
    }
    if (s->state == SMTP_RCPT) {
        message_open(s, true);
        s->state = SMTP_CHUNKS;
    }
    e = read_chunk(s, size, s->state == SMTP_CHUNKS);
    if (e < 0)
        return connection_lost(s, e);
    if (s->state == SMTP_CHUNKS)
        return end_chunk(s, size, is_last);
    refuse_chunk(s, is_last);
    return 0;
}
