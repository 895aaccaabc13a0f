/*
 * One letter after another, and what is said of each. Part of deliver: as the user whose mailbox it is.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "handlers/deliver/letter.h"
#include "handlers/deliver/share.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/io/transport.h"

#define SHARE_TRIES 3

/* What a failure of the store means: the first row that fits. Whatever may pass is EX_TEMPFAIL: other mailers return
 * mail for EX_CANTCREAT and EX_IOERR. */
static const struct verdict {
    int error;
    int status;
    const char *reply;
} VERDICTS[] = {
    {0, EX_OK, "250 2.1.5 Delivered"},
    {-ESRCH, EX_NOUSER, "550 5.1.1 There is no such user here"},
    {-ENXIO, EX_TEMPFAIL, "451 4.3.0 The user database does not know the user now"},
    {-EKEYREJECTED, EX_NOPERM, "550 5.7.1 Only the user, or root's smtp, delivers to that mailbox"},
    {-EAGAIN, EX_TEMPFAIL, "450 4.2.0 The mailbox is locked by another program"},
    {-EBADMSG, EX_TEMPFAIL, "451 4.3.0 The mailbox file is damaged, its owner must mend it"},
    {-EDQUOT, EX_TEMPFAIL, "452 4.2.2 The mailbox is full"},
    {-ENOSPC, EX_TEMPFAIL, "452 4.3.1 The disk is full"},
    {-EFBIG, EX_DATAERR, "552 5.3.4 The message is too big for the mailbox"},
    {-EMULTIHOP, EX_DATAERR, "554 5.4.6 The message has been delivered to this address before"},
    {-EPERM, EX_TEMPFAIL, "451 4.3.0 The mailbox is no plain file of its owner"},
    {-ELOOP, EX_TEMPFAIL, "451 4.3.0 The mailbox is no plain file of its owner"}, /* a symbolic link */
    {-EACCES, EX_TEMPFAIL, "451 4.3.0 The mailbox may not be written"},
    {-EROFS, EX_TEMPFAIL, "451 4.3.0 The mailbox is on a read-only file system"},
    {-ENOENT, EX_TEMPFAIL, "451 4.3.0 The mailbox cannot be created"},
    {-ENODEV, EX_TEMPFAIL, "451 4.3.0 The folder of the mailbox is not there"},
    {-EIO, EX_TEMPFAIL, "451 4.3.0 The disk reports an error"},
};

int deliver_verdict(int error, struct buf *out)
{
    for (size_t i = 0; i < ARRAY_SIZE(VERDICTS); i++)
        if (VERDICTS[i].error == error) {
            (void)buf_add_str(out, str_from(VERDICTS[i].reply));
            return VERDICTS[i].status;
        }
    (void)buf_printf(out, "451 4.3.0 %s", strerror(-error));
    return EX_TEMPFAIL;
}

void deliver_log(const struct session *s, const struct deliver_options *o, int error)
{
    const char *file = o->file ? o->file : strcasecmp(o->mailbox, "INBOX") == 0 ? s->inbox : NULL;
    struct log_field fields[] = {LOG_FC("mailbox", s->user), LOG_FC("folder", o->mailbox), LOG_FC("from", o->sender),
                                 LOG_FC("status", error == 0 ? "delivered" : strerror(-error)),
                                 LOG_FC("file", file ? file : "")};

    /* Under a monitor the monitor tells the story, with the queue id. */
    if (!o->serves || error < 0)
        log_event(error == 0 ? LOG_INFO : LOG_WARNING, "deliver", fields, ARRAY_SIZE(fields) - (error == 0 || !file));
}

struct server {
    struct conf *conf;
    const struct session *session;
    struct deliver_options *options;
    struct deliver_box box;
    struct share share;
    struct letter letters[1 + SHARE_GUESTS]; /* that are being delivered; our monitor's comes first */
    size_t count;
    bool is_over; /* there is no keeper any more */
};

static bool is_keeper_gone(const struct session *s)
{
    struct pollfd p = {.fd = s->control};

    return s->control >= 0 && poll(&p, 1, 0) > 0;
}

/* What the letter is to blame for, or the mailbox: another deliver would meet it, too. */
static bool is_for_all(int error)
{
    return error == -EMULTIHOP || error == -EINVAL || error == -EAGAIN || error == -EBADMSG;
}

/* Says why it was not done. Whoever brought it from elsewhere finds out himself what may be our trouble alone: our
 * limits, our memory, what the other letters add up to. Without a keeper, who was killed, or where nobody waits any
 * more, nothing is said: another deliver with another keeper looks what became of the letter. */
static void refuse(struct server *v, struct letter *l, int error)
{
    bool is_own = l->from == STDIN_FILENO;

    v->is_over |= is_keeper_gone(v->session) || (error == -EPIPE && is_own);
    if (v->is_over)
        return;
    if (!is_own && !is_for_all(error)) {
        letter_answer_line(l, STR(""));
        return;
    }
    v->options->sender = l->sender;
    deliver_log(v->session, v->options, error);
    letter_answer(l, error);
}

/* ---- one alone ---- */

static bool is_awaited(void *letter)
{
    return letter_is_awaited(letter);
}

/* The sender need not wait for the index and the locks. */
static void tell_delivered(void *letter)
{
    letter_answer(letter, 0);
}

static int open_box(struct server *v)
{
    return v->box.store ? 0 : deliver_open(v->conf, v->session, v->options, &v->box);
}

static void deliver_alone(struct server *v, struct letter *l)
{
    struct deliver_options *o = v->options;
    int e = letter_choose(l, o);

    o->is_wanted = is_awaited;
    o->tell = tell_delivered;
    o->context = l;
    if (e == 0)
        e = open_box(v);
    if (e == 0)
        e = deliver_message(&v->box, v->conf, v->session, o);
    if (e < 0)
        refuse(v, l, e);
    if (e == 0 && !l->is_told) /* thrown away */
        letter_answer(l, 0);
}

/* ---- several ---- */

static int may_all(void *server)
{
    const struct server *v = server;

    for (size_t i = 0; i < v->count; i++)
        if (!v->letters[i].is_told && !letter_is_awaited(&v->letters[i]))
            return -EPIPE;
    return 0;
}

static void tell_all(void *server)
{
    struct server *v = server;

    for (size_t i = 0; i < v->count; i++)
        if (!v->letters[i].is_told)
            letter_answer(&v->letters[i], 0);
}

/* What may go well with our own letter alone. */
static bool depends_on_others(int error)
{
    return error == -ENOSPC || error == -EDQUOT || error == -EFBIG || error == -EPIPE;
}

/* Nothing of it is in the mailbox, and nothing else is gathered. */
static void give_back(struct server *v, struct letter *l, int error)
{
    if (l->from == STDIN_FILENO && depends_on_others(error))
        deliver_alone(v, l);
    else
        refuse(v, l, error);
}

/* Adds it to what is to be written; if it cannot be, that is its verdict, or its deliver tries alone. */
static bool add(struct server *v, struct letter *l)
{
    int e = letter_choose(l, v->options);

    if (e == 0)
        e = deliver_add(&v->box, v->conf, v->session, v->options);
    if (e < 0)
        refuse(v, l, e);
    return e == 0;
}

static void deliver_together(struct server *v)
{
    const struct mbox_append_hooks hooks = {.may = may_all, .tell = tell_all, .context = v};
    size_t left = 0;
    int e = open_box(v);

    for (size_t i = 0; i < v->count && e == 0; i++)
        left += !v->letters[i].is_told && add(v, &v->letters[i]);
    if (e == 0 && left > 0)
        e = deliver_commit(&v->box, &hooks);
    for (size_t i = 0; i < v->count && e < 0; i++)
        if (!v->letters[i].is_told)
            give_back(v, &v->letters[i], e);
}

/* ---- with others ---- */

/* They meet for the INBOX. The quota is asked about one message. A large one is better written by who has it. */
static bool is_shareable(const struct server *v, const struct letter *l)
{
    const struct deliver_options *o = v->options;

    return !l->is_again && v->conf->mailbox_size == 0 && !o->file && strcasecmp(o->mailbox, "INBOX") == 0 &&
           l->text.len > 0;
}

/* Our own letter goes to whoever delivers for all, if that is not us. 0, or that nobody waits for it any more. */
static int pass_on(struct server *v, struct letter *l)
{
    _cleanup_buf_ struct buf line = BUF_INIT(VERDICT_MAX);
    int e = -ECONNRESET;

    for (int i = 0; i < SHARE_TRIES && e == -ECONNRESET; i++) {
        share_meet(&v->share, v->session);
        if (v->share.link < 0)
            return 0;
        e = share_hand_over(&v->share, &l->frame, &line);
    }
    if (e == 0)
        letter_answer_line(l, buf_str(&line));
    l->is_again |= e < 0 && e != -EAGAIN && e != -ECONNRESET; /* he may have delivered it */
    return e == -EPIPE ? e : 0;
}

static int deliver_all(struct server *v)
{
    struct letter *own = v->letters[0].from == STDIN_FILENO ? &v->letters[0] : NULL;
    int e = own && is_shareable(v, own) ? pass_on(v, own) : 0;
    size_t left = 0;

    if (e < 0)
        return e;
    if (own && own->is_again)
        deliver_alone(v, own);
    for (size_t i = 0; i < v->count && !v->is_over; i++)
        left += !v->letters[i].is_told;
    if (left > 1)
        deliver_together(v);
    for (size_t i = 0; i < v->count && left == 1; i++)
        if (!v->letters[i].is_told)
            deliver_alone(v, &v->letters[i]);
    return v->is_over ? -EPIPE : own ? own->error : 0;
}

/* ---- taking them ---- */

static int take(struct server *v, int from)
{
    int e = letter_take(&v->letters[v->count], from);

    v->count += e == 0;
    return e;
}

/* Who has gone, or sends what is no letter, or one for which a copy is to be looked for or a file to be read, is no
 * guest. */
static void take_from_guest(struct server *v, size_t guest)
{
    int e = take(v, v->share.guests[guest]);
    struct letter *l = e == 0 ? &v->letters[v->count - 1] : NULL;

    if (l && (l->is_again || l->text.len == 0)) {
        letter_finish(l);
        v->count--;
        e = -EPROTO;
    }
    if (e < 0 && e != -ETIMEDOUT)
        share_send_away(&v->share, guest);
}

/* Waits for letters and takes those that are there. What is wrong with our own ends it all: nobody else than our
 * monitor writes them. Guests' are left alone then, for another one. */
static int take_letters(struct server *v)
{
    struct pollfd p[3 + SHARE_GUESTS] = {{.fd = STDIN_FILENO, .events = POLLIN},
                                         {.fd = v->share.listener, .events = POLLIN},
                                         {.fd = v->session->control}};
    size_t count = v->share.count;
    int e;

    for (size_t i = 0; i < count; i++)
        p[3 + i] = (struct pollfd){.fd = v->share.guests[i], .events = POLLIN};
    e = transport_poll(p, 3 + count, TIMEOUT_POSTMAN * 1000);
    if (e <= 0)
        return e < 0 ? e : -ETIMEDOUT;
    if (p[2].revents)
        return -EPIPE; /* the keeper has gone */
    e = p[0].revents ? take(v, STDIN_FILENO) : 0;
    if (e < 0)
        return e;
    for (size_t i = count; i-- > 0;) /* backwards: the last takes the place of one who is sent away */
        if (p[3 + i].revents)
            take_from_guest(v, i);
    count = v->share.count;
    if (p[1].revents)
        share_let_in(&v->share);
    for (size_t i = v->share.count; i-- > count;)
        take_from_guest(v, i);
    return 0;
}

int deliver_serve(struct conf *conf, const struct session *s, struct deliver_options *o, int error)
{
    struct server v = {.conf = conf, .session = s, .options = o};
    int e = 0;

    share_init(&v.share);
    while (e == 0) {
        e = take_letters(&v);
        if (e == 0 && error < 0 && v.count > 0) {
            letter_answer(&v.letters[0], error);
            e = error;
        } else if (e == 0 && v.count > 0) {
            e = deliver_all(&v);
        }
        while (v.count > 0)
            letter_finish(&v.letters[--v.count]);
    }
    share_finish(&v.share);
    deliver_close(&v.box);
    return e == -ENODATA || e == -ETIMEDOUT || e == error ? EX_OK : EX_SOFTWARE;
}
