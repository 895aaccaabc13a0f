/*
 * What a courier gets next: the recipients of one message for whom it is the way, once everything is ready for them.
 * Runs in relay, as root.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "handlers/relay/relay.h"
#include "shared/route/scratch.h"

#define TURN_TRIES 50 /* of TURN_MS: for an entry that another run holds */
#define TURN_MS    200

/* Can they be recipients of one transaction? MAIL says the same for all of them (RFC 3461 5.2.7.1 for lists). */
static bool go_together(const struct queue_envelope *e, const struct queue_recipient *a,
                        const struct queue_recipient *b)
{
    return a->is_list == b->is_list && strcmp(queue_recipient_sender(e, a), queue_recipient_sender(e, b)) == 0;
}

/* The recipients of the message that this dest has to carry now, all from the same sender. True: some are left. */
static bool choose(struct relay *r, struct slot *s)
{
    const struct queue_envelope *e = &s->open->entry.envelope;
    bool is_more = false;

    s->count = 0;
    for (size_t i = 0; i < e->count; i++) {
        struct dest *d = NULL;
        const char *why = "";

        if (!plan_is_due(r, e, &e->recipients[i]) || plan_dest(r, e, &e->recipients[i], &d, &why) < 0 || d != s->dest)
            continue;
        if (s->count == RELAY_RCPTS ||
            (s->count > 0 && !go_together(e, &e->recipients[s->rcpts[0]], &e->recipients[i])))
            is_more = true;
        else
            s->rcpts[s->count++] = (uint32_t)i;
    }
    return is_more;
}

/* What the expansion of our own names has added for others. */
static int plan_added(struct relay *r, const struct slot *s, struct message *m, size_t before)
{
    const struct queue_envelope *e = &s->open->entry.envelope;
    int x = 0;

    for (size_t i = before; i < e->count && x == 0; i++) {
        struct dest *d = NULL;
        const char *why = "";

        if (plan_is_due(r, e, &e->recipients[i]) && plan_dest(r, e, &e->recipients[i], &d, &why) == 0 && d != s->dest &&
            (d->count == d->at || d->messages[d->count - 1] != m))
            x = plan_again(r, d, m);
    }
    return x;
}

/* A message of which something must be written when one of its recipients has it, needs room for that on the disk:
 * otherwise he would get it with every run. One that can simply go makes room. */
static bool has_room(const struct relay *r, const struct queue_envelope *e)
{
    size_t waiting = 0;

    for (size_t i = 0; i < e->count; i++)
        if (!queue_recipient_is_done(&e->recipients[i]))
            waiting += e->recipients[i].notify & QUEUE_NOTIFY_SUCCESS ? 2 : 1;
    return waiting <= 1 || scratch_has_room(r->conf, 0) != -ENOSPC;
}

/* A message that should be signed and cannot be waits: without its signature it may be refused for good. */
static bool is_ready(struct relay *r, struct slot *s)
{
    struct talk_reply reply;

    if (!has_room(r, &s->open->entry.envelope))
        talk_reply_set(&reply, TALK_DATA, 452, "4.3.1", "the disk of the queue is full");
    else if (s->dest->job.kind == JOB_LOCAL || signing_prepare(r, s->open) == 0)
        return true;
    else
        talk_reply_set(&reply, TALK_DATA, 451, "4.7.5", "the message could not be signed, see the log");
    for (uint32_t i = 0; i < s->count; i++)
        settle_reply(r, s->open, s->rcpts[i], &reply, s->host, s);
    return false;
}

/* An entry that another run holds is that run's, except that no other run has this connection. */
static int open_entry(struct relay *r, struct slot *s, struct message *m)
{
    int x = settle_open(r, m, &s->open);

    for (unsigned i = 0; x == -EAGAIN && s->dest->job.kind == JOB_TURN && i < TURN_TRIES; i++) {
        (void)poll(NULL, 0, TURN_MS);
        x = settle_open(r, m, &s->open);
    }
    return x;
}

int offer_message(struct relay *r, struct slot *s, struct message *m)
{
    bool is_more;
    int x = open_entry(r, s, m);

    if (x < 0)
        return x == -ENOMEM ? x : 0;
    if (s->dest->job.kind == JOB_LOCAL) {
        size_t before = s->open->entry.envelope.count;

        x = settle_expand(r, s->open);
        if (x == 0)
            x = plan_added(r, s, m, before);
    }
    is_more = x == 0 && choose(r, s);
    if (is_more && plan_again(r, s->dest, m) < 0)
        r->problem = -ENOMEM;
    if (x == 0 && s->count > 0 && is_ready(r, s))
        return 1;
    return x == -ENOMEM ? x : 0;
}

static const enum talk_body BODIES[] = {[QUEUE_BODY_7BIT] = TALK_BODY_7BIT,
                                        [QUEUE_BODY_8BITMIME] = TALK_BODY_8BIT,
                                        [QUEUE_BODY_BINARYMIME] = TALK_BODY_BINARY};
static const enum talk_ret RETS[] = {
    [QUEUE_RET_UNSET] = TALK_RET_UNSET, [QUEUE_RET_FULL] = TALK_RET_FULL, [QUEUE_RET_HDRS] = TALK_RET_HDRS};

static const enum talk_by BYS[] = {
    [QUEUE_BY_NONE] = TALK_BY_NONE, [QUEUE_BY_RETURN] = TALK_BY_RETURN, [QUEUE_BY_NOTIFY] = TALK_BY_NOTIFY};

static int64_t by_seconds(const struct relay *r, const struct queue_envelope *e)
{
    int64_t left = e->by == QUEUE_BY_NONE ? 0 : e->by_deadline - relay_now(r);

    return left > TALK_BY_MAX ? TALK_BY_MAX : left < -TALK_BY_MAX ? -TALK_BY_MAX : left;
}

int offer_mail(const struct relay *r, const struct slot *s, struct frame *f)
{
    const struct queue_envelope *e = &s->open->entry.envelope;
    const struct queue_recipient *first = &e->recipients[s->rcpts[0]];
    struct talk_mail m = {
        .sender = str_from(queue_recipient_sender(e, first)),
        .body = BODIES[e->body],
        .is_utf8 = e->is_utf8,
        .is_requiretls = e->requires_tls && s->dest->job.kind != JOB_LOCAL,
        .is_report = e->sender[0] == '\0' && !e->peer && !e->user,
        .envid = first->is_list ? STR_NULL : str_from(e->envid),
        .ret = first->is_list ? TALK_RET_UNSET : RETS[e->ret],
        .by = BYS[e->by],
        .by_trace = e->by_trace,
        .by_seconds = by_seconds(r, e),
        .count = s->count,
    };

    return talk_put_mail(f, &m);
}
