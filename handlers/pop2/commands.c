/*
 * The POP2 commands after login (see session.h; RFC 937). Runs in pop2-session as the user. The store holds no lock
 * while we write.
 */
#include <errno.h>
#include <stdlib.h>

#include "handlers/pop2/quote.h"
#include "handlers/pop2/session.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/serve/serve.h"

static uint32_t count(const struct pop2 *s)
{
    return s->box ? mbox_count(s->box) : 0;
}

static int no_argument(struct pop2 *s, struct str arguments)
{
    return str_trim(arguments).len ? pop2_fail(s, "bad_command", "That command takes no argument") : 0;
}

/* ---- folders ---- */

int pop2_open(struct pop2 *s, struct str name)
{
    int r = mbox_open(s->store, name, MBOX_OPEN_POP3, &s->box);

    /* RFC 937 FOLD: a mailbox that does not exist has no messages; neither has a name that none can have. */
    if (r < 0 && r != -ENOENT && r != -ENOTDIR && r != -EINVAL && r != -EISDIR)
        return pop2_store_fail(s, r);
    s->marks = calloc((size_t)count(s) + 1, 1);
    if (!s->marks)
        return pop2_store_fail(s, -ENOMEM);
    s->current = 1;
    s->size = 0;
    s->state = POP2_MBOX;
    s->count.folders += s->box != NULL;
    return writer_printf(&s->out, "#%u message%s\r\n", count(s), count(s) == 1 ? "" : "s");
}

/* Adds the UIDs of what is to be removed, and of what was read, stays and is not known as read yet. */
static int collect(struct pop2 *s, struct numset *remove, struct numset *seen)
{
    struct mbox_info info;
    int r = 0;

    for (uint32_t seq = 1; seq <= count(s) && r >= 0; seq++) {
        uint8_t marks = s->marks[seq - 1];

        if (!marks)
            continue;
        r = mbox_info(s->box, seq, &info);
        if (r >= 0 && marks & POP2_DELETED)
            r = numset_add(remove, info.uid, info.uid);
        else if (r >= 0 && !(info.flags.system & MBOX_SEEN))
            r = numset_add(seen, info.uid, info.uid);
    }
    return r;
}

/* Does what the marks say, durable when it returns 0. */
static int update(struct pop2 *s)
{
    _cleanup_numset_ struct numset remove = NUMSET_INIT, seen = NUMSET_INIT;
    uint64_t removed = 0;
    int r = collect(s, &remove, &seen);

    if (r >= 0 && !mbox_is_readonly(s->box))
        r = serve_update(s->box, &remove, &seen, &removed);
    s->count.removed += removed;
    return r;
}

/* Leaves the folder, which is the moment at which messages are removed (RFC 937 ACKD). It is free before the client
 * hears of it. */
static int release(struct pop2 *s)
{
    int r = s->box ? update(s) : 0;
    int e = mbox_close(s->box);

    s->box = NULL;
    free(s->marks);
    s->marks = NULL;
    if (e < 0)
        LOG_ERROR(LOG_WARNING, "mailbox_close", e);
    if (r < 0)
        LOG_ERROR(LOG_ERR, "expunge", r);
    return r < 0 ? pop2_store_fail(s, r) : 0;
}

int pop2_fold(void *session, struct str arguments)
{
    _cleanup_buf_ struct buf name = BUF_INIT(LIMIT_LINE_POP3);
    struct pop2 *s = session;
    int r;

    if (quote_take(&arguments, true, &name) < 0)
        return pop2_fail(s, "bad_command", "The form is: FOLD mailbox");
    r = release(s);
    return r < 0 ? r : pop2_open(s, buf_str(&name));
}

int pop2_quit(void *session, struct str arguments)
{
    struct pop2 *s = session;
    int r = no_argument(s, arguments);

    if (r == 0)
        r = release(s);
    if (r < 0)
        return r;
    s->is_leaving = true;
    s->end = "quit";
    return writer_printf(&s->out, "+ Bye, %llu deleted\r\n", (unsigned long long)s->count.removed);
}

/* ---- messages ---- */

/* "=n" for the current message. */
static int announce(struct pop2 *s)
{
    struct mbox_info info;
    int r;

    s->size = 0;
    s->state = POP2_ITEM;
    if (s->current > 0 && s->current <= count(s) && !(s->marks[s->current - 1] & POP2_DELETED)) {
        r = mbox_info(s->box, s->current, &info);
        if (r < 0 && r != -ESTALE && r != -ENOENT)
            return pop2_store_fail(s, r);
        s->size = r < 0 || info.is_expunged ? 0 : info.size;
    }
    if (s->size == 0)
        return writer_text(&s->out, "=0 there is no such message\r\n");
    return writer_printf(&s->out, "=%llu characters in message %u\r\n", (unsigned long long)s->size, s->current);
}

int pop2_read(void *session, struct str arguments)
{
    struct pop2 *s = session;
    struct str number = str_trim(arguments);
    uint32_t n;
    int r;

    if (number.len) {
        r = str_to_u32(number, &n);
        if (r == -EINVAL)
            return pop2_fail(s, "bad_command", "The form is: READ [number]");
        s->current = r < 0 ? 0 : n; /* more than there can be: as one that is not there */
    }
    return announce(s);
}

/* Sends exactly the octets that were announced: nothing in them or behind them tells the client where they end. */
static int send_message(struct pop2 *s, struct mbox_stream *stream)
{
    uint64_t left = s->size;
    struct str piece;
    int r;

    while ((r = mbox_stream_next(stream, &piece)) >= 0 && piece.len) {
        if (piece.len > left)
            return -EIO;
        left -= piece.len;
        r = writer_str(&s->out, piece);
        if (r < 0)
            return r;
    }
    return r < 0 ? r : left ? -EIO : 0;
}

int pop2_retr(void *session, struct str arguments)
{
    struct mbox_stream *stream = NULL;
    struct pop2 *s = session;
    int r = no_argument(s, arguments);

    if (r < 0)
        return r;
    /* The client would take words for the message: it is cut off without any (RFC 937 RETR). */
    if (s->size == 0) {
        s->end = "no_message";
        return -EPROTO;
    }
    r = mbox_stream_new(s->box, s->current, &stream);
    if (r >= 0)
        r = send_message(s, stream);
    mbox_stream_free(stream);
    if (r < 0)
        return r;
    s->count.retr++;
    s->count.retr_bytes += s->size;
    s->state = POP2_NEXT;
    return 0;
}

static int acknowledge(struct pop2 *s, struct str arguments, unsigned mark, uint32_t step)
{
    int r = no_argument(s, arguments);

    if (r < 0)
        return r;
    /* Without write access the answer is the same and nothing happens (RFC 937 ACKD). */
    if (!mbox_is_readonly(s->box))
        s->marks[s->current - 1] |= (uint8_t)mark;
    s->current += step;
    return announce(s);
}

int pop2_acks(void *session, struct str arguments)
{
    return acknowledge(session, arguments, POP2_SAVED, 1);
}

int pop2_ackd(void *session, struct str arguments)
{
    return acknowledge(session, arguments, POP2_DELETED, 1);
}

int pop2_nack(void *session, struct str arguments)
{
    return acknowledge(session, arguments, 0, 0);
}
