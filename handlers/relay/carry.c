/*
 * One courier: the job, its messages one after the other, their results. Runs in relay, as root. What a courier says
 * may come from a stranger's server in the end: every frame is checked, and one that has no place ends the courier.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "handlers/relay/relay.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"

#define WATCH_MS    (3 * 60 * 60 * INT64_C(1000)) /* relay-session keeps all time-outs; this is for one that is ill */
#define LEAVE_MS    20000                         /* for QUIT, behind which relay-courier does not wait long */
#define EXIT_MS     1000                          /* of a courier that has closed its socket */
#define RCPTS_BYTES (LIMIT_FRAME / 2)             /* of a frame of recipients before the last one */

static void set_watch(struct slot *s)
{
    s->heard_at = clock_monotonic_ms();
    s->deadline = s->heard_at + WATCH_MS;
}

/* One that has nothing to do, else a place for another one; NULL: neither. */
static struct slot *find_slot(struct relay *r)
{
    struct slot *found = NULL;

    for (size_t i = 0; i < r->slot_count; i++) {
        if (r->slots[i].state == SLOT_IDLE)
            return &r->slots[i];
        if (r->slots[i].state == SLOT_FREE && !found)
            found = &r->slots[i];
    }
    return found;
}

static int send_job(const struct relay *r, const struct slot *s)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int x = job_put(&f, &s->dest->job);

    return x < 0 ? x : frame_send(s->child.control, &f, s->dest->job.kind == JOB_TURN ? r->turn : -1);
}

static int start_courier(const struct relay *r, struct slot *s)
{
    struct chain_spec spec = {CHAIN_SPEC("relay-courier"), .conf = r->conf, .has_control = true, .dies_with_us = true};
    int x = chain_spawn(&spec, &s->child);

    if (x == 0)
        x = send_job(r, s);
    if (x < 0)
        (void)chain_end(&s->child, 0);
    else /* A courier that does not read must not stop us. */
        (void)fcntl(s->child.control, F_SETFL, O_NONBLOCK);
    return x;
}

int carry_start(struct relay *r, struct dest *d)
{
    struct slot *s = find_slot(r);
    struct chain_child idle = CHAIN_CHILD_NONE;
    int x = -EPIPE;

    if (!s)
        return -EAGAIN;
    if (s->state == SLOT_IDLE)
        idle = s->child;
    *s = (struct slot){.dest = d, .child = idle};
    if (idle.pid > 0)
        x = send_job(r, s);
    if (x < 0) { /* none is idle, or it has died since */
        (void)chain_end(&s->child, 0);
        x = start_courier(r, s);
    }
    if (d->job.kind == JOB_TURN)
        close_fd(&r->turn);
    if (x < 0)
        return x;
    s->state = SLOT_STARTING;
    d->slots++;
    set_watch(s);
    return 0;
}

/* ---- the end of a courier ---- */

static void let_go(struct relay *r, struct slot *s)
{
    if (s->open)
        settle_close(r, s->open);
    s->open = NULL;
    s->count = s->sent = s->heard = 0;
}

static void leave_dest(struct slot *s)
{
    s->dest->slots--;
    s->dest->ups -= s->is_up;
}

static void leave(struct relay *r, struct slot *s)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;

    let_go(r, s);
    frame_begin(&f, FRAME_RELAY_QUIT);
    (void)frame_send(s->child.control, &f, -1); /* one that cannot be told is killed when its time is up */
    leave_dest(s);
    s->state = SLOT_LEAVING;
    s->deadline = clock_monotonic_ms() + LEAVE_MS;
}

void carry_retire(struct slot *s)
{
    (void)shutdown(s->child.control, SHUT_WR);
    s->state = SLOT_LEAVING;
    s->deadline = clock_monotonic_ms() + LEAVE_MS;
}

/* QUIT was said, or nothing at all: it is idle then, or it goes. */
static void on_leaving(struct slot *s)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int x = frame_recv(s->child.control, &f, 0);

    if (x == 0 && s->state == SLOT_LEAVING) { /* else its words crossed ours, and nobody needs them any more */
        s->state = f.type == FRAME_RELAY_IDLE ? SLOT_IDLE : SLOT_LEAVING;
        return;
    }
    (void)chain_end(&s->child, x == -ENODATA ? EXIT_MS : 0);
    s->state = SLOT_FREE;
}

/* Each recipient of the message under way with what was said of him, or with `reply` if nothing was. */
static void settle_rest(struct relay *r, struct slot *s, const struct talk_reply *reply)
{
    for (uint32_t i = 0; s->open && i < s->count; i++)
        settle_reply(r, s->open, s->rcpts[i], i < s->heard ? &s->replies[i] : reply, s->host, s);
}

void carry_kill(struct relay *r, struct slot *s, const char *why)
{
    struct talk_reply reply;

    LOG_EVENT(LOG_ERR, "relay-courier-ended", LOG_FC("hop", s->dest->key), LOG_FC("reason", why));
    talk_reply_set(&reply, TALK_DATA, 421, "4.3.0", "the connection's process failed: %s", why);
    settle_rest(r, s, &reply);
    if (!s->is_up && s->dest->slots == 1 && !s->dest->is_down)
        down_set(s->dest, &reply, "");
    down_break(r, s, &reply);
    let_go(r, s);
    leave_dest(s);
    (void)chain_end(&s->child, 0);
    s->state = SLOT_FREE;
}

/* ---- messages ---- */

static int send_mail(const struct relay *r, struct slot *s)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int x = offer_mail(r, s, &f);

    if (x == 0)
        x = frame_send(s->child.control, &f, signing_file(s->open, s->dest->job.kind == JOB_LOCAL));
    s->state = SLOT_BUSY;
    s->sent = s->heard = 0;
    set_watch(s);
    s->begun_at = s->heard_at;
    return x;
}

/* Takes the message on. 1: it is under way, 0: there is nothing to do for it here, or a negative errno. */
static int begin(struct relay *r, struct slot *s, struct message *m)
{
    int x = offer_message(r, s, m);

    if (x > 0) {
        s->agains = 0;
        s->open->entry.envelope.attempts++;
        x = send_mail(r, s);
        return x < 0 ? x : 1;
    }
    let_go(r, s);
    return x;
}

static void next_message(struct relay *r, struct slot *s)
{
    struct dest *d = s->dest;
    int x = 0;

    while (x == 0 && d->at < d->count) {
        struct message *m = d->messages[d->at++];

        x = begin(r, s, m);
        plan_leave(r, m);
    }
    if (x < 0)
        carry_kill(r, s, strerror(-x));
    else if (x == 0)
        leave(r, s);
}

/* ---- results ---- */

/* Refused for what the sender is, not for what the message or the recipient is (RFC 3463 3.8). */
static bool is_policy(const struct talk_reply *reply)
{
    return reply->code >= 400 && !reply->is_ours && reply->enhanced[2] == '7';
}

/* May there be another connection for the message? It is not lost sight of in between: it stays open. */
static bool may_ask_again(const struct slot *s)
{
    return s->dest->job.kind != JOB_LOCAL && s->dest->job.kind != JOB_TURN && s->agains < RELAY_AGAINS;
}

/* Could another connection do better? */
static bool is_worth_again(const struct slot *s, const struct talk_reply *reply, bool is_usable)
{
    bool is_v6 = strchr(s->address, ':') != NULL;

    if (!may_ask_again(s))
        return false;
    if (is_v6 && !s->is_v4_only && is_policy(reply))
        return true;
    /* Behind the last byte of a message nobody knows whether it was taken: that waits, it is not doubled at once. */
    return !is_usable && reply->code / 100 == 4 && reply->phase != TALK_END && (reply->is_ours || reply->code == 421);
}

/* RFC 5321 4.5.3.1.10: the server takes no more recipients with this message, but it took some. */
static bool is_too_many(const struct talk_reply *reply)
{
    return reply->phase == TALK_RCPT && reply->code == 452;
}

static int ask_again(struct slot *s, enum job_again how)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int x;

    s->agains++;
    s->is_v4_only |= how == JOB_AGAIN_V4;
    s->state = SLOT_STARTING;
    set_watch(s);
    frame_begin(&f, FRAME_RELAY_AGAIN);
    x = frame_put_u32(&f, how);
    return x < 0 ? x : frame_send(s->child.control, &f, -1);
}

/* Where could another connection do better for a recipient who got that reply? A server that takes no more with this
 * message, or with this connection, is the right one still. */
static enum job_again where_again(const struct slot *s, const struct talk_reply *reply)
{
    if (!s->is_v4_only && strchr(s->address, ':') && is_policy(reply))
        return JOB_AGAIN_V4;
    return is_too_many(reply) ? JOB_AGAIN_SAME : JOB_AGAIN_ELSEWHERE;
}

/* Settles what is settled; keeps in s->rcpts what is worth another try. Returns how many, and with which connection, if
 * it takes another one. */
static uint32_t sort_out(struct relay *r, struct slot *s, bool is_usable, enum job_again *ret_how)
{
    bool is_progress = false, has_way = is_usable || may_ask_again(s);
    uint32_t kept = 0;

    for (uint32_t i = 0; i < s->count; i++)
        is_progress |= s->replies[i].code / 100 == 2;
    *ret_how = JOB_AGAIN_SAME;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct talk_reply reply = s->replies[i];

        if (is_worth_again(s, &reply, is_usable) || (has_way && is_progress && is_too_many(&reply))) {
            if (where_again(s, &reply) > *ret_how)
                *ret_how = where_again(s, &reply);
            s->rcpts[kept] = s->rcpts[i];
            s->replies[kept++] = reply; /* what counts if nobody else can be reached */
        } else {
            settle_reply(r, s->open, s->rcpts[i], &reply, s->host, s);
        }
    }
    return kept;
}

static int on_done(struct relay *r, struct slot *s, struct frame_reader *in)
{
    uint32_t usable, converted, kept;
    enum job_again how;
    bool is_work;

    if (s->state != SLOT_BUSY || s->heard != s->count || frame_get_u32(in, &usable) < 0 ||
        frame_get_u32(in, &converted) < 0 || frame_end(in) < 0)
        return -EBADMSG;
    is_work = down_work(r, s, usable != 0);
    kept = sort_out(r, s, usable != 0, &how);
    s->count = kept;
    if (kept > 0 && (how == JOB_AGAIN_V4 || !usable))
        return ask_again(s, how);
    if (kept > 0)
        return send_mail(r, s);
    if (!is_work)
        down_break(r, s, &s->replies[0]);
    let_go(r, s);
    if (usable)
        s->state = SLOT_SETTLED;
    else
        leave(r, s); /* what is left for this dest gets a fresh connection */
    return 0;
}

static int on_result(struct slot *s, struct frame_reader *in)
{
    if (s->state != SLOT_BUSY || s->heard >= s->sent || talk_get_reply(in, &s->replies[s->heard]) < 0 ||
        frame_end(in) < 0)
        return -EBADMSG;
    s->heard++;
    return 0;
}

static int put_local(struct frame *f, const struct queue_envelope *e, const struct queue_recipient *rcpt)
{
    static const enum job_place places[] = {
        [QUEUE_MAILBOX] = JOB_MAILBOX, [QUEUE_COMMAND] = JOB_COMMAND, [QUEUE_FILE] = JOB_FILE};
    struct job_local l = {.place = places[rcpt->kind],
                          .user = str_from(rcpt->user),
                          .argument = str_from(rcpt->argument),
                          .address = str_from(rcpt->address),
                          .sender = str_from(queue_recipient_sender(e, rcpt))};

    return job_put_local(f, &l);
}

/* As many recipients as fit well into a frame. */
static int on_more(struct slot *s)
{
    _cleanup_frame_ struct frame body = FRAME_INIT, f = FRAME_INIT;
    bool is_local = s->dest->job.kind == JOB_LOCAL;
    const struct queue_envelope *e;
    uint32_t n = 0;
    int x = 0;

    if (s->state != SLOT_BUSY || s->sent >= s->count)
        return -EBADMSG;
    e = &s->open->entry.envelope;
    for (; x == 0 && s->sent + n < s->count && body.payload.len < RCPTS_BYTES; n++) {
        const struct queue_recipient *rcpt = &e->recipients[s->rcpts[s->sent + n]];
        struct talk_rcpt t = {str_from(rcpt->address), rcpt->notify, str_from(rcpt->orcpt)};

        x = is_local ? put_local(&body, e, rcpt) : talk_put_rcpt(&body, &t);
    }
    s->sent += n;
    frame_begin(&f, is_local ? FRAME_RELAY_LOCAL : FRAME_RELAY_RCPT);
    if (x == 0)
        x = frame_put_u32(&f, n);
    if (x == 0)
        x = buf_add_str(&f.payload, buf_str(&body.payload));
    return x < 0 ? x : frame_send(s->child.control, &f, -1);
}

static int on_up(struct relay *r, struct slot *s, struct frame_reader *in)
{
    struct job_up up;

    if (s->state != SLOT_STARTING || job_get_up(in, &up) < 0 || up.ready.status != TALK_READY)
        return -EBADMSG;
    (void)snprintf(s->host, sizeof(s->host), "%.*s", STR_ARG(up.host));
    (void)snprintf(s->address, sizeof(s->address), "%.*s", STR_ARG(up.address));
    s->ready = up.ready;
    s->dest->ups += !s->is_up;
    s->is_up = true;
    if (s->open)
        return send_mail(r, s);
    next_message(r, s);
    return 0;
}

/* Nobody can be reached. What was kept from an earlier connection has its reply from there. */
static int on_down(struct relay *r, struct slot *s, struct frame_reader *in)
{
    struct dest *d = s->dest;
    struct job_down down;
    char host[LIMIT_DOMAIN + 1];

    if (s->state != SLOT_STARTING || job_get_down(in, &down) < 0 || down.reply.code / 100 == 2)
        return -EBADMSG;
    (void)snprintf(host, sizeof(host), "%.*s", STR_ARG(down.host));
    s->heard = s->count;
    settle_rest(r, s, &down.reply);
    /* Others may still be talking to it: then what is left is theirs, and it can be reached. */
    if (!s->is_up && d->slots == 1) {
        down_set(d, &down.reply, host);
        if (down.reply.code / 100 == 4 && d->job.kind != JOB_TURN)
            memory_set(r, d, &down.reply);
    }
    down_break(r, s, &down.reply);
    LOG_EVENT(LOG_NOTICE, "unreachable", LOG_FC("hop", d->key), LOG_FC("host", host), LOG_F("addr", down.address),
              LOG_FC("reason", down.reply.text));
    leave(r, s);
    return 0;
}

/* The connection is gone in the middle of a message: its process, or the server with its only address. */
static int on_lost(struct relay *r, struct slot *s, struct frame_reader *in)
{
    struct talk_reply reply;

    if (talk_get_reply(in, &reply) < 0 || frame_end(in) < 0 || reply.code / 100 == 2)
        return -EBADMSG;
    settle_rest(r, s, &reply);
    down_break(r, s, s->state == SLOT_STARTING && s->count > 0 ? &s->replies[0] : &reply);
    leave(r, s);
    return 0;
}

void carry_on(struct relay *r, struct slot *s)
{
    if (s->state == SLOT_SETTLED)
        next_message(r, s);
}

void carry_event(struct relay *r, struct slot *s)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader in;
    int x;

    if (s->state == SLOT_LEAVING || s->state == SLOT_IDLE) {
        on_leaving(s);
        return;
    }
    x = frame_recv(s->child.control, &f, 0);
    if (x < 0) {
        carry_kill(r, s, x == -ENODATA ? "it is gone" : strerror(-x));
        return;
    }
    s->heard_at = clock_monotonic_ms();
    in = frame_read(&f);
    switch (f.type) {
    case FRAME_RELAY_UP:
        x = on_up(r, s, &in);
        break;
    case FRAME_RELAY_DOWN:
        x = on_down(r, s, &in);
        break;
    case FRAME_RELAY_MORE:
        x = on_more(s);
        break;
    case FRAME_RELAY_RESULT:
        x = on_result(s, &in);
        break;
    case FRAME_RELAY_DONE:
        x = on_done(r, s, &in);
        break;
    case FRAME_RELAY_LOST:
        x = on_lost(r, s, &in);
        break;
    default:
        x = -EBADMSG;
    }
    if (x < 0 && s->state != SLOT_FREE && s->state != SLOT_LEAVING)
        carry_kill(r, s, strerror(-x));
}
