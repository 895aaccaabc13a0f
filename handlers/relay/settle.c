/*
 * What became of recipients, and the entry's way out of the queue. Runs in relay, as root. The order of the writes is
 * what a crash leaves: the envelope tells of a delivery before anything else is tried, a report is in the queue before
 * the envelope says so, and the entry goes last.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handlers/relay/relay.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/queue/inherit.h"
#include "shared/route/expand.h"
#include "shared/route/srs_run.h"

int settle_open(struct relay *r, struct message *m, struct open **ret)
{
    struct open *o = r->opens;
    int x;

    while (o && o->message != m)
        o = o->next;
    if (o && o->is_removed)
        return -ENOENT;
    if (!o) {
        o = calloc(1, sizeof(*o));
        if (!o)
            return -ENOMEM;
        o->entry = QUEUE_ENTRY_INIT;
        o->signed_file = -1;
        x = queue_take(&r->queue, m->id, &o->entry);
        if (x < 0) {
            free(o);
            if (x != -EAGAIN && x != -ENOENT)
                LOG_ERROR(LOG_ERR, "queue-entry-unreadable", x, LOG_FC("queue_id", m->id));
            return x;
        }
        if (o->entry.envelope.created > relay_now(r)) { /* the clock has gone back: it would never be too old */
            o->entry.envelope.created = relay_now(r);
            o->is_changed = true;
        }
        o->message = m;
        m->places++;
        o->next = r->opens;
        r->opens = o;
    }
    o->slots++;
    *ret = o;
    return 0;
}

/* The disk says no: whatever was delivered is delivered, and may be delivered again. */
static void complain(struct relay *r, const struct open *o, const char *what, int x)
{
    LOG_ERROR(LOG_CRIT, "queue-write-failed", x, LOG_FC("queue_id", o->entry.id), LOG_FC("what", what));
    if (r->problem == 0)
        r->problem = x;
}

static int64_t earliest(const struct queue_envelope *e)
{
    int64_t at = INT64_MAX;

    for (size_t i = 0; i < e->count; i++)
        if (!queue_recipient_is_done(&e->recipients[i]) && e->recipients[i].next_attempt < at)
            at = e->recipients[i].next_attempt;
    return at == INT64_MAX ? 0 : at;
}

/* With the last word of this run on it, it goes to cur/ at the same time. */
static void write_back(struct relay *r, struct open *o, bool is_last)
{
    int x;

    if (!o->is_changed)
        return;
    o->entry.envelope.next_attempt = earliest(&o->entry.envelope);
    x = is_last ? queue_put_off(&r->queue, &o->entry) : queue_update(&r->queue, &o->entry);
    if (x < 0)
        complain(r, o, "envelope", x);
    else
        o->is_changed = false;
}

static void release(struct relay *r, struct open *o)
{
    struct open **at = &r->opens;

    while (*at != o)
        at = &(*at)->next;
    *at = o->next;
    queue_release(&o->entry);
    close_fd(&o->signed_file);
    plan_leave(r, o->message);
    free(o);
}

/* Does a state of some recipient call for a report? If not, a delivered entry goes with one write less. */
static bool wants_report(const struct queue_envelope *e)
{
    for (size_t i = 0; i < e->count; i++) {
        const struct queue_recipient *rcpt = &e->recipients[i];

        if (!rcpt->is_reported && queue_recipient_is_done(rcpt) &&
            (rcpt->state == QUEUE_FAILED || (rcpt->notify & QUEUE_NOTIFY_SUCCESS)))
            return true;
    }
    return false;
}

/* Because it waits for long, or because its sender wanted to hear when a time has passed (RFC 2852 4.1.3). */
static bool wants_warning(const struct relay *r, const struct queue_envelope *e)
{
    uint32_t after = r->conf->delay_warning;
    int64_t now = relay_now(r);

    if (queue_envelope_is_done(e))
        return false;
    return (after > 0 && !e->is_delay_warned && now - e->created >= after) ||
           (e->by == QUEUE_BY_NOTIFY && !e->is_by_told && queue_envelope_is_late(e, now));
}

static void log_result(const struct relay *r, const struct open *o, const struct queue_recipient *rcpt,
                       const char *status, const char *host, const struct slot *s)
{
    const struct queue_envelope *e = &o->entry.envelope;
    char delay[24];
    bool has_tls = s && s->is_up && s->ready.tls[0];

    (void)snprintf(delay, sizeof(delay), "%lld", (long long)(relay_now(r) - e->created));
    LOG_EVENT(LOG_INFO, status, LOG_FC("queue_id", o->entry.id), LOG_FC("to", rcpt->address),
              LOG_FC("from", queue_recipient_sender(e, rcpt)), LOG_FC("hop", host), LOG_FC("addr", s ? s->address : ""),
              LOG_FC("tls", has_tls ? s->ready.tls : "none"),
              LOG_FC("verified", has_tls && s->ready.is_verified ? "yes" : "no"), LOG_FC("delay", delay),
              LOG_FC("reply", rcpt->reply ? rcpt->reply : ""));
}

/* ---- what comes too late ---- */

/* RFC 2852 4.1.3: 5.4.7 whatever the last attempt led to. It is we who say so. */
static int set_late(struct queue_recipient *rcpt)
{
    _cleanup_buf_ struct buf text = BUF_INIT(QUEUE_VALUE);
    int x = buf_printf(&text, "554 5.4.7 The time in which it was to be delivered is over");

    if (x == 0 && rcpt->reply)
        x = buf_printf(&text, "; last: %s", rcpt->reply);
    free(steal_ptr(rcpt->host));
    rcpt->state = QUEUE_FAILED;
    return x < 0 ? x : queue_envelope_set(&rcpt->reply, buf_str(&text));
}

/* RFC 2852 4.1.3: nothing of it is tried any more. */
static void fail_late(struct relay *r, struct open *o)
{
    struct queue_envelope *e = &o->entry.envelope;

    for (size_t i = 0; i < e->count && !e->is_held && plan_is_to_return(r, e); i++) {
        struct queue_recipient *rcpt = &e->recipients[i];

        if (queue_recipient_is_done(rcpt))
            continue;
        if (set_late(rcpt) < 0)
            complain(r, o, "memory", -ENOMEM);
        r->failed++;
        o->is_changed = true;
        log_result(r, o, rcpt, "too-late", "", NULL);
    }
}

void settle_sync(struct relay *r)
{
    int x = r->removed > 0 ? queue_sync(&r->queue) : 0;
    struct open *next;

    for (struct open *o = r->opens; o && r->removed > 0; o = next) {
        int e = x;

        next = o->next;
        if (!o->is_removed)
            continue;
        if (e == 0)
            e = queue_forget(&r->queue, &o->entry);
        if (e < 0)
            complain(r, o, "remove", e);
        else
            LOG_EVENT(LOG_INFO, "removed", LOG_FC("queue_id", o->entry.id));
        release(r, o);
        r->removed--;
    }
}

static void remove_entry(struct relay *r, struct open *o)
{
    int x = queue_unlink(&r->queue, &o->entry);

    if (x < 0) {
        complain(r, o, "remove", x);
        release(r, o);
        return;
    }
    o->is_removed = true;
    if (++r->removed == RELAY_REMOVED)
        settle_sync(r);
}

void settle_close(struct relay *r, struct open *o)
{
    struct queue_envelope *e = &o->entry.envelope;
    int x = 0;

    if (o->slots == 1) /* nobody else is at it */
        fail_late(r, o);
    if (wants_report(e)) { /* what is final is on the disk before it is told */
        write_back(r, o, false);
        x = reports_final(r, o);
    }
    if (x == 0 && wants_warning(r, e))
        x = reports_delay(r, o);
    if (x < 0 && r->problem == 0)
        r->problem = x;
    o->slots--;
    if (o->slots == 0 && queue_envelope_is_done(e) && !wants_report(e)) {
        remove_entry(r, o);
        return;
    }
    write_back(r, o, o->slots == 0);
    if (o->slots > 0)
        return;
    x = queue_settle(&r->queue, &o->entry);
    if (x < 0)
        complain(r, o, "settle", x);
    release(r, o);
}

/* ---- replies ---- */

/* The wait doubles as the message gets older (RFC 5321 4.5.4.1), give or take a tenth, so that what failed together is
 * not tried together for ever. */
static int64_t next_time(const struct relay *r, int64_t created, int64_t now)
{
    int64_t wait = now - created;
    uint8_t dice = 128;

    if (wait > r->conf->retry_max)
        wait = r->conf->retry_max;
    if (wait < r->conf->retry_min)
        wait = r->conf->retry_min;
    (void)secret_random(&dice, sizeof(dice));
    return now + wait * (90 * 255 + 20 * (int64_t)dice) / (100 * 255);
}

/* Its time is up only for what was tried since a quarter of it had passed: where the clock was set, or the machine was
 * off for a week, the first try is not the last. */
static bool is_too_old(const struct relay *r, const struct queue_envelope *e, int64_t last_attempt)
{
    int64_t lifetime = r->conf->queue_lifetime;

    return relay_now(r) - e->created >= lifetime && last_attempt >= e->created + lifetime / 4;
}

static const char *set_state(struct relay *r, const struct queue_envelope *e, struct queue_recipient *rcpt,
                             unsigned code, bool is_local)
{
    int64_t now = relay_now(r), before = rcpt->last_attempt;

    rcpt->last_attempt = now;
    if (code / 100 == 2) {
        rcpt->state = is_local ? QUEUE_DELIVERED : QUEUE_RELAYED;
        r->sent++;
        return is_local ? "delivered" : "sent";
    }
    if (code / 100 == 5) {
        rcpt->state = QUEUE_FAILED;
        r->failed++;
        return "failed";
    }
    if (plan_is_to_return(r, e)) {
        r->failed++;
        return set_late(rcpt) < 0 ? "too-late-unsaid" : "too-late";
    }
    if (is_too_old(r, e, before)) {
        rcpt->state = QUEUE_FAILED;
        r->failed++;
        return "expired";
    }
    rcpt->state = QUEUE_DEFERRED;
    rcpt->next_attempt = next_time(r, e->created, now);
    if (e->by == QUEUE_BY_RETURN && rcpt->next_attempt > e->by_deadline)
        rcpt->next_attempt = e->by_deadline;
    r->deferred++;
    return "deferred";
}

/* RFC 2852 4.1.4: a trace was asked for, or the next hop knows nothing of the wish to hear of delays. */
static bool is_relaying_told(const struct relay *r, const struct queue_envelope *e, uint32_t extensions)
{
    if (e->by == QUEUE_BY_NOTIFY && !(extensions & TALK_DELIVERBY) && !queue_envelope_is_late(e, relay_now(r)))
        return true;
    return e->by != QUEUE_BY_NONE && e->by_trace;
}

static void note_relayed(const struct relay *r, const struct queue_envelope *e, struct queue_recipient *rcpt,
                         uint32_t extensions)
{
    if (!(rcpt->notify & QUEUE_NOTIFY_NEVER) && is_relaying_told(r, e, extensions))
        rcpt->notify |= QUEUE_NOTIFY_SUCCESS;
    else if (extensions & TALK_DSN) /* RFC 3461 4.1, 5.2.2: such a server has taken the duty over */
        rcpt->is_reported = true;
}

void settle_reply(struct relay *r, struct open *o, uint32_t index, const struct talk_reply *reply, const char *host,
                  const struct slot *s)
{
    struct queue_envelope *e = &o->entry.envelope;
    struct queue_recipient *rcpt = &e->recipients[index];
    char text[TALK_TEXT + 32];
    const char *status;
    bool is_local = (s && s->dest->job.kind == JOB_LOCAL) || rcpt->kind != QUEUE_REMOTE;

    (void)snprintf(text, sizeof(text), "%u %s %s", reply->code, reply->enhanced, reply->text);
    if (queue_envelope_set(&rcpt->reply, str_from(text)) < 0 ||
        (!reply->is_ours && host[0] && queue_envelope_set(&rcpt->host, str_from(host)) < 0))
        complain(r, o, "memory", -ENOMEM);
    if (reply->is_ours) {
        free(rcpt->host);
        rcpt->host = NULL;
    }
    status = set_state(r, e, rcpt, reply->code, is_local);
    if (rcpt->state == QUEUE_RELAYED && s)
        note_relayed(r, e, rcpt, s->ready.extensions);
    o->is_changed = true;
    log_result(r, o, rcpt, status, host, s);
}

/* ---- our own domains ---- */

/* RFC 5321 3.9.2: the owner of a list hears of its failures. What goes on to another machine has a sender of ours
 * (SRS), so that SPF lets it pass; without that it goes all the same, and its sender hears if it is refused. A bounce
 * stays one. */
static int set_sender(struct relay *r, struct open *o, struct queue_recipient *to, const char *own, const char *owner)
{
    const char *sender = own ? own : o->entry.envelope.sender;
    _cleanup_buf_ struct buf text = BUF_INIT(QUEUE_VALUE);
    int x = 0;

    if (owner && sender[0])
        x = buf_printf(&text, "%s@%s", owner, r->conf->hostname);
    else if (to->kind == QUEUE_REMOTE && srs_is_wanted(r->conf, str_from(sender)))
        x = srs_run_forward(r->conf, sender, &text);
    else if (own)
        x = buf_add_str(&text, str_from(own));
    if (x < 0 && x != -ENOMEM) {
        LOG_ERROR(LOG_WARNING, "srs-failed", x, LOG_FC("queue_id", o->entry.id), LOG_FC("from", sender));
        return 0;
    }
    return x < 0 || text.len == 0 ? x : queue_envelope_set(&to->sender, buf_str(&text));
}

static struct queue_origin origin(const struct queue_recipient *rcpt, const struct expansion *x)
{
    return (struct queue_origin){.address = rcpt->address,
                                 .notify = rcpt->notify,
                                 .orcpt = rcpt->orcpt,
                                 .is_orcpt_ours = rcpt->is_orcpt_ours,
                                 .places = x->count,
                                 .is_list = x->owner != NULL};
}

static int add_targets(struct relay *relay, struct open *o, size_t index, const struct expansion *x)
{
    static const enum queue_kind kinds[] = {[RCPT_MAILBOX] = QUEUE_MAILBOX,
                                            [RCPT_COMMAND] = QUEUE_COMMAND,
                                            [RCPT_FILE] = QUEUE_FILE,
                                            [RCPT_REMOTE] = QUEUE_REMOTE};
    struct queue_envelope *e = &o->entry.envelope;
    const struct queue_recipient parent = e->recipients[index]; /* the array may move, its strings stay */
    const struct queue_origin from = origin(&parent, x);
    int r = 0;

    for (size_t i = 0; i < x->count && r == 0; i++) {
        struct queue_recipient *to = NULL;
        bool is_remote = x->targets[i].kind == RCPT_REMOTE;

        r = queue_envelope_add(e, str_from(is_remote ? x->targets[i].argument : parent.address), &to);
        if (r < 0)
            break;
        to->kind = kinds[x->targets[i].kind];
        if (!is_remote)
            r = queue_envelope_set(&to->user, str_from(x->targets[i].user));
        if (r == 0 && !is_remote)
            r = queue_envelope_set(&to->argument, str_from(x->targets[i].argument));
        if (r == 0)
            r = queue_inherit(to, &from);
        to->is_list |= parent.is_list; /* RFC 3461 5.2.7.1 (b), behind an alias of ours, too */
        if (r == 0)
            r = set_sender(relay, o, to, parent.sender, x->owner);
    }
    return r;
}

/* What its sender hears of a recipient that became others. */
static void set_expanded(struct open *o, size_t index, const struct expansion *x)
{
    struct queue_recipient *rcpt = &o->entry.envelope.recipients[index];
    const struct queue_origin from = origin(rcpt, x);

    rcpt->is_reported = !queue_origin_is_told(&from, &rcpt->state);
    o->is_changed = true;
}

static int expand_one(struct relay *r, struct open *o, size_t index)
{
    struct queue_envelope *e = &o->entry.envelope;
    struct expansion x = {0};
    struct smtp_answer answer;
    struct smtp_path path;
    size_t before = e->count;
    int error = path_parse_mailbox(str_from(e->recipients[index].address), PATH_UTF8 | PATH_BARE_OK, &path);

    answer_set(&answer, 550, "5.1.3", "The address is not well-formed");
    if (error == 0)
        error = expand_path(r->conf, &path, "", &x, &answer);
    if (error == 0)
        error = add_targets(r, o, index, &x);
    if (error == 0)
        set_expanded(o, index, &x);
    expansion_finish(&x);
    if (error == 0)
        return 0;
    for (size_t i = before; i < e->count; i++) { /* half of the places is none */
        e->recipients[i].state = QUEUE_EXPANDED;
        e->recipients[i].is_reported = true;
    }
    if (error == -ENOMEM)
        return error;

    struct talk_reply reply;

    talk_reply_set(&reply, TALK_RCPT, answer.code, answer.enhanced, "%s", answer.text);
    settle_reply(r, o, (uint32_t)index, &reply, "", NULL);
    return 0;
}

int settle_expand(struct relay *r, struct open *o)
{
    struct queue_envelope *e = &o->entry.envelope;
    size_t count = e->count;
    int x = 0;

    for (size_t i = 0; i < count && x == 0; i++) {
        struct dest *d = NULL;
        const char *why = "";
        struct talk_reply reply;

        if (e->recipients[i].kind != QUEUE_REMOTE || !plan_is_due(r, e, &e->recipients[i]))
            continue;
        x = plan_dest(r, e, &e->recipients[i], &d, &why);
        if (x == -EINVAL) {
            talk_reply_set(&reply, TALK_RCPT, 550, "5.1.3", "%s", why);
            settle_reply(r, o, (uint32_t)i, &reply, "", NULL);
            x = 0;
        } else if (x == 0 && d->job.kind == JOB_LOCAL) {
            x = expand_one(r, o, i);
        }
    }
    /* Before the first of them is delivered: otherwise a crash would make them twice. */
    if (x == 0)
        write_back(r, o, false);
    return x == 0 && o->is_changed ? -EIO : x;
}
