/*
 * Entries that become due. Runs in smtp as root; touches the queue folder.
 */
#include "shared/queue/flush.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool is_in_domain(const char *address, struct str domain)
{
    const char *at = strrchr(address, '@');
    struct str ours = str_from(at ? at + 1 : "");
    bool is_whole = !str_starts(domain, STR("@"));

    if (!is_whole)
        domain = str_sub(domain, 1, domain.len);
    if (str_ieq(ours, domain))
        return true;
    return !is_whole && ours.len > domain.len + 1 && ours.ptr[ours.len - domain.len - 1] == '.' &&
           str_ieq(str_sub(ours, ours.len - domain.len, domain.len), domain);
}

/* Somebody of the domain who waits. If `wakes`, he becomes due. */
static bool find(struct queue_envelope *e, struct str domain, int64_t now, bool wakes)
{
    bool is_found = false;

    if (e->is_held || e->hold_until > now)
        return false;
    for (size_t i = 0; i < e->count; i++) {
        struct queue_recipient *r = &e->recipients[i];

        if (queue_recipient_is_done(r) || (domain.len > 0 && !is_in_domain(r->address, domain)))
            continue;
        is_found = true;
        if (wakes)
            r->next_attempt = e->next_attempt = 0;
    }
    return is_found;
}

static int wake(struct queue *q, const char *id, struct str domain, int64_t now)
{
    _cleanup_queue_entry_ struct queue_entry t = QUEUE_ENTRY_INIT;
    int e = queue_take(q, id, &t);

    if (e < 0)
        return e;
    if (!find(&t.envelope, domain, now, true))
        return -ENOENT; /* gone since we looked */
    e = queue_update(q, &t);
    return e < 0 ? e : queue_renew(q, &t);
}

int queue_flush(struct queue *q, struct str domain, int64_t now, struct queue_flush *ret)
{
    _cleanup_queue_walk_ struct queue_walk w = {0};
    struct queue_flush counts = {0};
    char id[QUEUE_ID + 1];
    int e = queue_walk_begin(q, &w);

    while (e == 0 && (e = queue_walk_next(&w, id)) > 0) {
        _cleanup_queue_envelope_ struct queue_envelope envelope = QUEUE_ENVELOPE_INIT;

        e = 0;
        if (!w.is_cur && faccessat(q->cur, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            continue; /* in both: it comes again, and the one in cur/ counts */
        if (queue_peek(q, id, &envelope) < 0 || !find(&envelope, domain, now, false))
            continue;
        counts.found++;
        /* What is in new/ is due; the walk is still there. */
        e = w.is_cur ? wake(q, id, domain, now) : 0;
        counts.woken += e == 0;
        if (e == -EAGAIN || e == -ENOENT || e == -EBADMSG || e == -EPROTONOSUPPORT)
            e = 0;
    }
    if (e == 0)
        *ret = counts;
    return e;
}

int queue_has(const struct queue *q, struct str domain, int64_t now)
{
    _cleanup_queue_walk_ struct queue_walk w = {0};
    char id[QUEUE_ID + 1];
    bool is_found = false;
    int e = queue_walk_begin(q, &w);

    while (e >= 0 && !is_found && (e = queue_walk_next(&w, id)) > 0) {
        _cleanup_queue_envelope_ struct queue_envelope envelope = QUEUE_ENVELOPE_INIT;

        is_found = queue_peek(q, id, &envelope) == 0 && find(&envelope, domain, now, false);
    }
    return e < 0 ? e : is_found;
}
