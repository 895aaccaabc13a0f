/*
 * Next hops that are down: those that cannot be reached, and those that greet and do no work. Runs in relay, as root.
 */
#include <stdio.h>

#include "handlers/relay/relay.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"

void down_set(struct dest *d, const struct talk_reply *reply, const char *host)
{
    d->is_down = true;
    d->down = *reply;
    (void)snprintf(d->down_host, sizeof(d->down_host), "%s", host);
}

/* It may be the message's doing: one from the other end of the line is next, so that a few that break connections do
 * not stop the others. When it goes on with those it is the host's. */
void down_break(struct relay *r, struct slot *s, const struct talk_reply *last)
{
    struct dest *d = s->dest;
    struct talk_reply reply;

    if (!s->is_up || d->job.kind == JOB_LOCAL || d->job.kind == JOB_TURN)
        return;
    if (s->open)
        plan_other_first(d, s->open->message);
    d->broken += s->begun_at >= d->worked_at;
    if (d->broken < RELAY_BROKEN || d->slots > 1) /* the others may fare better */
        return;
    talk_reply_set(&reply, TALK_DATA, 421, "4.4.2", "the last %u connections broke, the last one with: %s", d->broken,
                   last->text);
    down_set(d, &reply, "");
    memory_set(r, d, &reply);
    LOG_EVENT(LOG_NOTICE, "unreachable", LOG_FC("hop", d->key), LOG_FC("host", s->host), LOG_FC("addr", s->address),
              LOG_FC("reason", reply.text));
}

/* One that says its last word on a recipient, or leaves the connection in order. */
bool down_work(struct relay *r, struct slot *s, bool is_usable)
{
    bool is_work = is_usable;

    for (uint32_t i = 0; i < s->count && !is_work; i++)
        is_work = s->replies[i].code / 100 == 2 || (s->replies[i].code / 100 == 5 && !s->replies[i].is_ours);
    if (!is_work)
        return false;
    s->dest->broken = 0;
    s->dest->worked_at = clock_monotonic_ms();
    if (!s->is_proven && s->dest->job.kind != JOB_LOCAL)
        memory_clear(r, s->dest);
    s->is_proven = true;
    return true;
}
