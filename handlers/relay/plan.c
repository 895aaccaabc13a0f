/*
 * What is to be done: from the envelopes in the queue to next hops with their messages. Runs in relay.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handlers/relay/relay.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"

/* FNV-1a: ids are ours and domains are few. */
static size_t bucket_of(const char *text)
{
    uint32_t h = 2166136261u;

    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 16777619u;
    return h % RELAY_BUCKETS;
}

/* ---- messages ---- */

static struct message *find_message(const struct relay *r, const char *id)
{
    struct message *m = r->messages[bucket_of(id)];

    while (m && strcmp(m->id, id) != 0)
        m = m->next;
    return m;
}

static struct message *add_message(struct relay *r, const char *id, const struct queue_envelope *e)
{
    struct message *m = calloc(1, sizeof(*m));
    size_t b = bucket_of(id);

    if (!m)
        return NULL;
    (void)snprintf(m->id, sizeof(m->id), "%s", id);
    m->priority = e->priority;
    m->created = e->created;
    m->next = r->messages[b];
    r->messages[b] = m;
    r->message_count++;
    return m;
}

void plan_leave(struct relay *r, struct message *m)
{
    struct message **at = &r->messages[bucket_of(m->id)];

    if (--m->places > 0)
        return;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    r->message_count--;
    free(m);
}

/* ---- next hops ---- */

static struct dest *add_dest(struct relay *r, const struct nexthop *n)
{
    struct dest *d = calloc(1, sizeof(*d));
    size_t b = bucket_of(n->key);

    if (!d)
        return NULL;
    memcpy(d->key, n->key, sizeof(d->key));
    (void)snprintf(d->hop, sizeof(d->hop), "%.*s", STR_ARG(n->job.hop));
    d->job = n->job;
    d->job.hop = str_from(d->hop);
    d->next_in_bucket = r->dests[b];
    r->dests[b] = d;
    if (r->last_dest)
        r->last_dest->next = d;
    else
        r->first_dest = d;
    r->last_dest = d;
    return d;
}

int plan_dest(struct relay *r, const struct queue_envelope *e, const struct queue_recipient *rcpt, struct dest **ret,
              const char **ret_why)
{
    struct nexthop n;
    struct dest *d;
    int x;

    if (rcpt->kind == QUEUE_REMOTE) {
        const char *sender = queue_recipient_sender(e, rcpt);

        /* RFC 8689 4.2.1, 5: a report asks for REQUIRETLS where it is to be had, and is not lost where it is not. */
        x = nexthop_find(&r->files, str_from(sender), str_from(rcpt->address), e->requires_tls && sender[0] != '\0',
                         e->tls_optional, &n, ret_why);
        if (x < 0)
            return x;
    } else {
        n = (struct nexthop){.job = {.kind = JOB_LOCAL, .percent = 100}};
        memcpy(n.key, "local", sizeof("local"));
    }
    for (d = r->dests[bucket_of(n.key)]; d && strcmp(d->key, n.key) != 0;)
        d = d->next_in_bucket;
    if (!d)
        d = add_dest(r, &n);
    *ret = d;
    return d ? 0 : -ENOMEM;
}

int plan_again(struct relay *r, struct dest *d, struct message *m)
{
    (void)r;
    if (d->at > 0 && d->at * 2 > d->cap) { /* what has been taken makes room */
        d->count -= d->at;
        memmove(d->messages, d->messages + d->at, d->count * sizeof(struct message *));
        d->at = 0;
    }
    if (d->count == d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 8;
        struct message **more = reallocarray(d->messages, cap, sizeof(struct message *));

        if (!more)
            return -ENOMEM;
        d->messages = more;
        d->cap = cap;
    }
    d->messages[d->count++] = m;
    m->places++;
    return 0;
}

void plan_other_first(struct dest *d, const struct message *m)
{
    size_t i = d->count;
    struct message *other;

    while (i > d->at && d->messages[i - 1] == m)
        i--;
    if (i == d->at)
        return;
    other = d->messages[--i];
    memmove(d->messages + d->at + 1, d->messages + d->at, (i - d->at) * sizeof(struct message *));
    d->messages[d->at] = other;
}

/* ---- entries ---- */

/* Is it in one of the domains, which commas separate? */
static bool is_in(const char *domains, struct str address)
{
    struct str rest = str_from(domains), domain;

    while (rest.len > 0) {
        (void)str_cut(&rest, ',', &domain);
        if (address.len > domain.len && address.ptr[address.len - domain.len - 1] == '@' &&
            str_ieq(str_sub(address, address.len - domain.len, domain.len), domain))
            return true;
    }
    return false;
}

static bool is_meant(const struct relay *r, const struct queue_recipient *rcpt)
{
    struct str address = str_from(rcpt->address);

    if (r->filter.match && str_ifind(address, str_from(r->filter.match)) < 0)
        return false;
    return (!r->filter.turn || is_in(r->filter.turn, address)) &&
           (!r->filter.domain || is_in(r->filter.domain, address));
}

bool plan_is_to_return(const struct relay *r, const struct queue_envelope *e)
{
    return e->by == QUEUE_BY_RETURN && queue_envelope_is_late(e, relay_now(r));
}

/* A time that no run would have chosen comes from a clock that was wrong. */
static bool is_far_off(const struct relay *r, int64_t wait)
{
    const struct conf *c = r->conf;

    return wait > 2 * (int64_t)(c->retry_max > c->retry_min ? c->retry_max : c->retry_min);
}

bool plan_is_due(const struct relay *r, const struct queue_envelope *e, const struct queue_recipient *rcpt)
{
    int64_t now = relay_now(r);

    if (e->is_held || e->hold_until > now || queue_recipient_is_done(rcpt) || !is_meant(r, rcpt) ||
        plan_is_to_return(r, e))
        return false;
    return r->filter.is_forced || rcpt->next_attempt <= now || is_far_off(r, rcpt->next_attempt - now);
}

/* Into each of the dests of its due recipients, once. */
static int plan_envelope(struct relay *r, const char *id, const struct queue_envelope *e)
{
    struct message *m = NULL;
    int x = 0;

    for (size_t i = 0; i < e->count && x == 0; i++) {
        struct dest *d = NULL;
        const char *why = "";

        if (!plan_is_due(r, e, &e->recipients[i]))
            continue;
        /* An address that leads nowhere is found out again when the entry is ours: by the local dest. */
        x = plan_dest(r, e, &e->recipients[i], &d, &why);
        if (x == -EINVAL) {
            struct queue_recipient here = {.kind = QUEUE_MAILBOX};

            x = plan_dest(r, e, &here, &d, &why);
        }
        if (x == 0 && !m)
            m = add_message(r, id, e);
        if (x < 0 || !m)
            return x < 0 ? x : -ENOMEM;
        d->is_asked_for |= e->recipients[i].state == QUEUE_DEFERRED && e->recipients[i].next_attempt == 0;
        if (d->count == d->at || d->messages[d->count - 1] != m)
            x = plan_again(r, d, m);
    }
    return x;
}

/* An envelope that needs a look although nothing of it is tried: all are done and it was not removed, or it comes too
 * late. What the admin holds stays as it is. */
static bool is_unfinished(const struct relay *r, const struct queue_envelope *e)
{
    return queue_envelope_is_done(e) || (!e->is_held && plan_is_to_return(r, e));
}

/* RFC 2852 4.1.3: its sender wants to hear now that it is late. What is tried in this run tells him afterwards. */
static bool is_to_tell(const struct relay *r, const char *id, const struct queue_envelope *e)
{
    return e->by == QUEUE_BY_NOTIFY && !e->is_held && !e->is_by_told && queue_envelope_is_late(e, relay_now(r)) &&
           !find_message(r, id);
}

/* Takes it and lets it go, which does what there is to do without an attempt. */
static int look_after(struct relay *r, const char *id, const struct queue_envelope *e)
{
    struct message *m = add_message(r, id, e);
    struct open *o;

    if (!m)
        return -ENOMEM;
    m->places = 1;
    if (settle_open(r, m, &o) == 0)
        settle_close(r, o);
    plan_leave(r, m);
    return 0;
}

static int plan_id(struct relay *r, const char *id)
{
    _cleanup_queue_envelope_ struct queue_envelope e = QUEUE_ENVELOPE_INIT;
    _cleanup_queue_entry_ struct queue_entry entry = QUEUE_ENTRY_INIT;
    int x;

    if (find_message(r, id))
        return 0;
    x = queue_peek(&r->queue, id, &e);
    if (x == -ENOENT)
        return 0;
    if (x == -EBADMSG || x == -EPROTONOSUPPORT) {
        x = queue_take(&r->queue, id, &entry); /* puts it aside where it is damaged */
        if (x < 0 && x != -EAGAIN && x != -ENOENT)
            LOG_ERROR(LOG_ERR, "queue-entry-unreadable", x, LOG_FC("queue_id", id),
                      LOG_FC("what", x == -EBADMSG ? "moved to the folder corrupt" : "left alone"));
        return x == -EBADMSG || x == -EPROTONOSUPPORT || x == -EAGAIN || x == -ENOENT ? 0 : x;
    }
    if (x == 0 && is_unfinished(r, &e))
        return look_after(r, id, &e);
    if (x == 0)
        x = plan_envelope(r, id, &e);
    return x == 0 && is_to_tell(r, id, &e) ? look_after(r, id, &e) : x;
}

/* The more urgent first, then the older (RFC 6710 4.1). */
static int compare(const void *a, const void *b)
{
    const struct message *const *x = a, *const *y = b;

    if ((*x)->priority != (*y)->priority)
        return (*x)->priority > (*y)->priority ? -1 : 1;
    return (*x)->created < (*y)->created ? -1 : (*x)->created > (*y)->created;
}

int plan_queue(struct relay *r, bool only_new)
{
    struct queue_walk w;
    char id[QUEUE_ID + 1];
    int x = queue_walk_begin(&r->queue, &w);

    if (x < 0)
        return x;
    w.only_new = only_new;
    while ((x = queue_walk_next(&w, id)) > 0) {
        int e = plan_id(r, id);

        if (e == -ENOMEM) {
            x = e;
            break;
        }
        if (e < 0 && r->problem == 0) {
            LOG_ERROR(LOG_ERR, "queue-entry-unreadable", e, LOG_FC("queue_id", id));
            r->problem = e;
        }
    }
    queue_walk_end(&w);
    for (struct dest *d = r->first_dest; d; d = d->next)
        if (d->count - d->at > 1)
            qsort(d->messages + d->at, d->count - d->at, sizeof(struct message *), compare);
    return x;
}

void plan_finish(struct relay *r)
{
    struct dest *next;

    for (struct dest *d = r->first_dest; d; d = next) {
        next = d->next;
        while (d->at < d->count)
            plan_leave(r, d->messages[d->at++]);
        free(d->messages);
        free(d);
    }
}
