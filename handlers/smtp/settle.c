/*
 * What becomes of a message after the deliveries: answers for the client, and an envelope of the queue for whatever is
 * not done yet or must be reported. Runs with agent.c.
 *
 * A reply covers a group of jobs: all of them, or in LMTP those of one recipient. If no job of the group succeeded or
 * waits, the client hears of the failure and keeps the message. Otherwise it hears 250 and the rest is ours: what
 * failed for a while is tried again by the queue run, what failed for good or asked for it is reported to the sender
 * (RFC 3461), and no place gets the message twice. What may have succeeded is ours too: the queue run looks whether the
 * message is there, which a client that tries again cannot.
 */
#include <errno.h>
#include <string.h>

#include "handlers/smtp/dispatch.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/queue/inherit.h"

struct group {
    struct job *jobs;
    size_t count;
    bool is_queued;  /* something of it is in the envelope */
    bool is_waiting; /* and not only a report */
    struct smtp_answer answer;
};

struct settler {
    struct smtp_agent *agent;
    struct queue_envelope envelope;
    int64_t now;
    int error; /* why the envelope is not complete */
};

/* ---- the envelope ---- */

static int set_optional(char **field, const char *value)
{
    return value && value[0] ? queue_envelope_set(field, str_from(value)) : 0;
}

static int begin_envelope(struct settler *s, unsigned content)
{
    const struct smtp_agent *a = s->agent;
    struct queue_envelope *q = &s->envelope;
    int e;

    q->created = s->now;
    q->body = content & CONTENT_8BIT ? QUEUE_BODY_8BITMIME : QUEUE_BODY_7BIT;
    q->is_utf8 = a->params.is_utf8;
    q->ret = a->params.ret;
    q->requires_tls = a->params.requires_tls;
    q->tls_optional = (content & CONTENT_TLS_OPTIONAL) != 0 && !a->params.requires_tls; /* RFC 8689 4.1 */
    q->priority = a->params.priority;
    q->by = a->params.by;
    q->by_trace = a->params.by_trace;
    q->by_deadline = a->by_deadline;
    q->hold_until = a->params.hold_for > 0 ? s->now + a->params.hold_for : a->params.hold_until;
    q->next_attempt = q->hold_until;
    e = queue_envelope_set(&q->sender, buf_str(&a->sender));
    if (e == 0)
        e = set_optional(&q->user, a->user);
    if (e == 0)
        e = set_optional(&q->peer, a->peer);
    return e < 0 ? e : set_optional(&q->envid, a->envid);
}

static struct queue_origin origin(const struct agent_recipient *r)
{
    return (struct queue_origin){.address = r->address,
                                 .notify = r->notify,
                                 .orcpt = r->orcpt,
                                 .places = r->expansion.count,
                                 .is_list = r->expansion.owner != NULL};
}

static int set_target(struct queue_recipient *q, const struct rcpt_target *t)
{
    static const enum queue_kind kinds[] = {
        [RCPT_MAILBOX] = QUEUE_MAILBOX, [RCPT_COMMAND] = QUEUE_COMMAND, [RCPT_FILE] = QUEUE_FILE};
    int e;

    if (t->kind == RCPT_REMOTE)
        return 0;
    q->kind = kinds[t->kind];
    e = queue_envelope_set(&q->user, str_from(t->user));
    return e < 0 ? e : queue_envelope_set(&q->argument, str_from(t->argument));
}

static int set_reply(struct queue_recipient *q, const struct smtp_answer *answer, int64_t now)
{
    _cleanup_buf_ struct buf text = BUF_INIT(ANSWER_TEXT + 32);
    int e = buf_printf(&text, "%u %s %s", answer->code, answer->enhanced, answer->text);

    q->last_attempt = now;
    return e < 0 ? e : queue_envelope_set(&q->reply, buf_str(&text));
}

/* A job that is not finished, or failed and is to be reported. */
static int add_job(struct settler *s, const struct job *j)
{
    const char *address = j->target->kind == RCPT_REMOTE ? j->target->argument : j->recipient->address;
    struct queue_origin from = origin(j->recipient);
    struct queue_recipient *q;
    int e = queue_envelope_add(&s->envelope, str_from(address), &q);

    if (e < 0)
        return e;
    e = queue_inherit(q, &from);
    if (e == 0)
        e = set_target(q, j->target);
    if (e == 0 && strcmp(j->sender, s->envelope.sender) != 0)
        e = queue_envelope_set(&q->sender, str_from(j->sender));
    if (j->waits || e < 0)
        return e;
    q->state = answer_is_temporary(&j->answer) ? QUEUE_DEFERRED : QUEUE_FAILED;
    return set_reply(q, &j->answer, s->now);
}

/* RFC 3461 5.2.3, 5.2.7: the sender wants to hear of a success. */
static int add_success(struct settler *s, const struct agent_recipient *r, const struct job *j)
{
    struct queue_origin from = origin(r);
    struct queue_recipient *q;
    enum queue_state state;
    int e;

    if (!queue_origin_is_told(&from, &state)) /* the place itself tells */
        state = QUEUE_DELIVERED;
    if (!(r->notify & QUEUE_NOTIFY_SUCCESS) || (!from.is_list && from.places == 1 && !answer_is_ok(&j->answer)))
        return 0;
    e = queue_envelope_add(&s->envelope, str_from(r->address), &q);
    if (e < 0)
        return e;
    q->state = state;
    q->notify = r->notify;
    q->last_attempt = s->now;
    return r->orcpt ? queue_envelope_set(&q->orcpt, str_from(r->orcpt)) : 0;
}

/* ---- groups ---- */

static bool is_kept(const struct group *g)
{
    for (size_t i = 0; i < g->count; i++)
        if (g->jobs[i].waits || g->jobs[i].is_unsure || answer_is_ok(&g->jobs[i].answer))
            return true;
    return false;
}

/* Nothing of it is done: the client keeps the message. */
static void refuse(struct group *g)
{
    g->answer = g->jobs[0].answer;
    for (size_t i = 1; i < g->count && !answer_is_temporary(&g->answer); i++)
        if (answer_is_temporary(&g->jobs[i].answer))
            g->answer = g->jobs[i].answer;
}

static void keep(struct settler *s, struct group *g)
{
    size_t before = s->envelope.count;

    g->answer = g->jobs[0].answer;
    for (size_t i = 0; i < g->count && s->error == 0; i++) {
        const struct job *j = &g->jobs[i];

        if (i == 0 || j->recipient != g->jobs[i - 1].recipient)
            s->error = add_success(s, j->recipient, j);
        /* The queue tries a place once, however many recipients lead there; each hears of its failure. */
        if (s->error == 0 && !answer_is_ok(&j->answer) && !(j->same && (j->waits || answer_is_temporary(&j->answer))))
            s->error = add_job(s, j);
        g->is_waiting = g->is_waiting || j->waits || answer_is_temporary(&j->answer);
        if (answer_is_ok(&j->answer))
            g->answer = j->answer;
    }
    g->is_queued = s->envelope.count > before;
}

static void settle_group(struct settler *s, struct group *g)
{
    if (is_kept(g))
        keep(s, g);
    else
        refuse(g);
}

/* ---- the whole ---- */

/* 0: what is in the envelope is safe. */
static int store(struct settler *s)
{
    struct smtp_agent *a = s->agent;
    int e = s->error;

    if (e == 0 && s->envelope.count == 0)
        return 0;
    if (e == 0)
        e = agent_open_queue(a);
    if (e == 0)
        e = agent_need_file(a);
    if (e == 0)
        e = queue_create(&a->queue, &a->conf->clock, a->file, &s->envelope, str_from(a->id), NULL);
    if (e < 0)
        LOG_ERROR(LOG_ERR, "queue-failed", e, LOG_FC("queue_id", a->id), LOG_FC("folder", a->conf->queue));
    return e;
}

static void answer_group(const struct settler *s, const struct group *g, int e, struct smtp_answer *ret)
{
    *ret = g->answer;
    if (!is_kept(g))
        return;
    if (e < 0 && g->is_queued)
        answer_set(ret, e == -ENOSPC || e == -EDQUOT ? 452 : 451, e == -ENOSPC || e == -EDQUOT ? "4.3.1" : "4.3.0",
                   "The message could not be queued, try again later");
    else if (!s->agent->answers_each)
        answer_set(ret, 250, "2.0.0", "%s, id %s", g->is_waiting ? "Queued" : "Delivered", s->agent->id);
    else if (!answer_is_ok(ret))
        answer_set(ret, 250, "2.1.5", "Queued");
}

void settle_message(struct smtp_agent *a, unsigned content, struct job *jobs, size_t count, struct smtp_answer *answers)
{
    struct settler s = {.agent = a, .envelope = QUEUE_ENVELOPE_INIT, .now = clock_now(&a->conf->clock)};
    _cleanup_free_ struct group *groups = calloc(a->count, sizeof(*groups));
    size_t at = 0;
    int e;

    s.error = groups ? begin_envelope(&s, content) : -ENOMEM;
    for (size_t i = 0; groups && i < a->count; i++) {
        groups[i].jobs = &jobs[at];
        groups[i].count = a->answers_each ? a->recipients[i].expansion.count : count;
        at += a->recipients[i].expansion.count;
        if (a->answers_each || i == 0)
            settle_group(&s, &groups[i]);
    }
    e = store(&s);
    for (size_t i = 0; i < a->count; i++) {
        if (groups)
            answer_group(&s, &groups[a->answers_each ? i : 0], e, &answers[i]);
        else
            answer_set(&answers[i], 451, "4.3.0", "Out of memory");
    }
    queue_envelope_finish(&s.envelope);
}
