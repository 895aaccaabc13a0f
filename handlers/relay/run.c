/*
 * The loop of a queue run. Runs in relay, as root. It leaves when nothing is due and nothing is under way; before that
 * it has moved every entry out of new/, since pennypost-queue.path starts another run as long as there is one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "handlers/relay/relay.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"

#define TICK_MS       500
#define RESCAN_MS     (5 * 60 * 1000) /* what has become due while a run goes on */
#define SAVE_MS       (10 * 1000)
#define PER_COURIER   8  /* messages waiting for a dest that are worth another connection */
#define SETTLE_TRIES  50 /* of 200 ms: another process has the lock of a new entry */
#define SETTLE_MS     200
#define EXIT_MS       1000
#define SPARE         4
#define SLOW_MS       30000 /* who has not answered by then may take minutes */
#define PROBLEM_SLEEP 30    /* seconds: a disk that is ill must not make a storm of runs */

/* ---- new/ ---- */

/* Its lock is nobody's, and its bytes are not ours to read. If it is in both folders, the one in cur/ counts. */
static int settle_foreign(const struct relay *r, const char *id)
{
    bool is_seen = faccessat(r->queue.cur, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    int x = is_seen ? unlinkat(r->queue.new, id, 0) : renameat(r->queue.new, id, r->queue.cur, id);

    return x < 0 && errno != ENOENT ? -errno : 0;
}

/* An entry that nobody had to do anything with: held, for later, or another version's. */
static int settle_id(struct relay *r, const char *id)
{
    _cleanup_queue_entry_ struct queue_entry entry = QUEUE_ENTRY_INIT;
    int x = queue_take(&r->queue, id, &entry);

    if (x == -EPROTONOSUPPORT)
        return settle_foreign(r, id);
    if (x == -ENOENT || x == -EBADMSG)
        return 0;
    return x < 0 ? x : queue_settle(&r->queue, &entry);
}

/* 0: nothing is left there that was there when it began. */
static int settle_new(struct relay *r)
{
    struct queue_walk w;
    char id[QUEUE_ID + 1];
    int result = 0, x = queue_walk_begin(&r->queue, &w);

    if (x < 0)
        return x;
    w.only_new = true;
    while ((x = queue_walk_next(&w, id)) > 0) {
        int e = settle_id(r, id);

        if (e < 0)
            result = e;
    }
    queue_walk_end(&w);
    return x < 0 ? x : result;
}

static void empty_new(struct relay *r)
{
    int x = settle_new(r);

    for (unsigned i = 0; x == -EAGAIN && i < SETTLE_TRIES; i++) {
        (void)poll(NULL, 0, SETTLE_MS);
        x = settle_new(r);
    }
    if (x < 0) {
        LOG_ERROR(LOG_ERR, "new-not-emptied", x);
        if (r->problem == 0)
            r->problem = x;
    }
}

/* ---- couriers ---- */

static size_t waiting(const struct dest *d)
{
    return d->count - d->at;
}

static bool wants_courier(const struct relay *r, const struct dest *d)
{
    uint32_t most = r->conf->relay_connections_per_destination;

    if (waiting(d) == 0 || d->is_down)
        return false;
    if (d->job.kind == JOB_TURN) /* there is one connection */
        return d->slots == 0;
    /* Another one only beside those that have got through, and did not break. */
    return d->slots == 0 ||
           (d->ups == d->slots && d->broken == 0 && d->slots < most && waiting(d) > (size_t)d->slots * PER_COURIER);
}

/* Who fetches his mail gets it when he is there, and never what has to stay inside of TLS: what he has on his side of
 * the connection nobody knows (RFC 8689 4.2.1). */
static bool must_wait(const struct relay *r, struct dest *d)
{
    if (d->job.kind != JOB_TURN)
        return false;
    if (d->job.is_requiretls)
        talk_reply_set(&d->down, TALK_GREETING, 550, "5.7.30",
                       "the message demands TLS all the way (REQUIRETLS), and its recipient fetches his mail (ATRN)");
    else
        talk_reply_set(&d->down, TALK_GREETING, 450, "4.4.1", "the mail waits until it is fetched (ATRN)");
    return d->job.is_requiretls || r->turn < 0;
}

/* Is there anything to be tried there? What nobody can be reached for is drained. */
static bool may_start(struct relay *r, struct dest *d)
{
    if (!must_wait(r, d) && (d->slots > 0 || d->is_asked_for || r->filter.is_forced || !memory_find(r, d, &d->down)))
        return true;
    d->is_down = true;
    d->down_host[0] = '\0';
    return false;
}

/* Connections of which nothing has been heard for a while do not count: servers that stall hold each other up, and not
 * those that answer. There are SPARE times as many places for that. */
static bool has_place(const struct relay *r)
{
    int64_t slow = clock_monotonic_ms() - (int64_t)SLOW_MS * r->conf->relay_timeouts / 100;
    uint32_t quick = 0, places = 0;

    for (size_t i = 0; i < r->slot_count; i++) {
        const struct slot *s = &r->slots[i];
        bool is_place = s->state == SLOT_FREE || s->state == SLOT_IDLE;

        places += is_place;
        quick += !is_place && s->heard_at > slow;
    }
    return places > 0 && quick < (r->conf->relay_connections > 0 ? r->conf->relay_connections : 1);
}

/* The first courier of each dest, or one more. False: there are no more places. */
static bool start_some(struct relay *r, bool is_first)
{
    for (struct dest *d = r->first_dest; d; d = d->next) {
        int x;

        if (is_first != (d->slots == 0) || !wants_courier(r, d) || !may_start(r, d))
            continue;
        x = has_place(r) ? carry_start(r, d) : -EAGAIN;
        if (x < 0 && x != -EAGAIN) {
            LOG_ERROR(LOG_ERR, "no-courier", x, LOG_FC("hop", d->key));
            talk_reply_set(&d->down, TALK_GREETING, 451, "4.3.0", "no process could be started: %s", strerror(-x));
            d->is_down = d->slots == 0;
        }
        if (x < 0)
            return false;
    }
    return true;
}

/* No dest has a second one as long as another one has none: its start would cost more than it saves. */
static void start_couriers(struct relay *r)
{
    if (!start_some(r, true) || !start_some(r, false))
        return;
    for (size_t i = 0; i < r->slot_count; i++)
        if (r->slots[i].state == SLOT_IDLE)
            carry_retire(&r->slots[i]);
}

/* One message for a next hop that cannot be reached. */
static void drain_one(struct relay *r, struct dest *d)
{
    struct message *m = d->messages[d->at++];
    struct open *o = NULL;

    if (settle_open(r, m, &o) == 0) {
        const struct queue_envelope *e = &o->entry.envelope;

        for (size_t i = 0; i < e->count; i++) {
            struct dest *whose = NULL;
            const char *why = "";

            if (plan_is_due(r, e, &e->recipients[i]) && plan_dest(r, e, &e->recipients[i], &whose, &why) == 0 &&
                whose == d)
                settle_reply(r, o, (uint32_t)i, &d->down, d->down_host, NULL);
        }
        settle_close(r, o);
    }
    plan_leave(r, m);
    if (waiting(d) == 0)
        d->is_down = d->is_asked_for = false; /* for what comes later in this run the memory counts */
}

static bool drain(struct relay *r)
{
    bool is_more = false;

    for (struct dest *d = r->first_dest; d; d = d->next)
        if (d->is_down && waiting(d) > 0) {
            drain_one(r, d);
            is_more |= waiting(d) > 0;
        }
    return is_more;
}

static void check_time(struct relay *r, struct slot *s, int64_t now)
{
    if (s->state == SLOT_FREE || s->state == SLOT_IDLE || now <= s->deadline)
        return;
    if (s->state != SLOT_LEAVING) {
        carry_kill(r, s, "it does not end");
        return;
    }
    (void)chain_end(&s->child, 0);
    s->state = SLOT_FREE;
}

/* ---- the loop ---- */

static bool is_active(const struct relay *r)
{
    for (size_t i = 0; i < r->slot_count; i++)
        if (r->slots[i].state != SLOT_FREE && r->slots[i].state != SLOT_IDLE)
            return true;
    for (const struct dest *d = r->first_dest; d; d = d->next)
        if (waiting(d) > 0)
            return true;
    return false;
}

/* Waits for couriers and for new mail. True: there is new mail. */
static bool wait_events(struct relay *r, int watch, int timeout_ms)
{
    struct pollfd p[RELAY_SLOTS + 1] = {{.fd = watch, .events = POLLIN}};
    struct slot *who[RELAY_SLOTS + 1] = {NULL};
    nfds_t count = 1;
    char events[4096];

    for (size_t i = 0; i < r->slot_count; i++)
        if (r->slots[i].state != SLOT_FREE) {
            who[count] = &r->slots[i];
            p[count++] = (struct pollfd){.fd = r->slots[i].child.control, .events = POLLIN};
        }
    if (poll(p, count, timeout_ms) <= 0)
        return false;
    for (nfds_t i = 1; i < count; i++)
        if (p[i].revents)
            carry_event(r, who[i]);
    if (!p[0].revents)
        return false;
    while (read(watch, events, sizeof(events)) > 0)
        ;
    return true;
}

static int look(struct relay *r, bool only_new)
{
    int x = plan_queue(r, only_new);

    settle_sync(r);
    if (x < 0)
        LOG_ERROR(LOG_ERR, "queue-unreadable", x);
    return x;
}

/* Whatever came from the couriers is done with; one wait for the disk is enough for all of it. */
static void go_on(struct relay *r)
{
    settle_sync(r);
    for (size_t i = 0; i < r->slot_count; i++)
        carry_on(r, &r->slots[i]);
}

static int turn(struct relay *r, int watch, int64_t *rescan, int64_t *save)
{
    int64_t now;
    bool is_draining, is_new;
    int x = 0;

    start_couriers(r);
    is_draining = drain(r);
    settle_sync(r);
    is_new = wait_events(r, watch, is_draining ? 0 : TICK_MS);
    go_on(r);
    if (is_new)
        x = look(r, true);
    now = clock_monotonic_ms();
    for (size_t i = 0; i < r->slot_count; i++)
        check_time(r, &r->slots[i], now);
    if (x == 0 && now > *rescan) {
        *rescan = now + RESCAN_MS;
        x = look(r, false);
    }
    if (now > *save) {
        *save = now + SAVE_MS;
        memory_save(r);
    }
    return x;
}

static int work(struct relay *r, int watch)
{
    int64_t rescan = clock_monotonic_ms() + RESCAN_MS, save = clock_monotonic_ms() + SAVE_MS;
    int x = look(r, false);

    while (x == 0) {
        while (x == 0 && is_active(r))
            x = turn(r, watch, &rescan, &save);
        if (x == 0)
            x = look(r, true); /* what came while the last courier left */
        if (x == 0 && !is_active(r))
            return 0;
    }
    return x;
}

int run_queue(struct relay *r)
{
    _cleanup_close_ int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    char path[4096];
    int x;

    r->slot_count = SPARE * (size_t)(r->conf->relay_connections > 0 ? r->conf->relay_connections : 1);
    if (r->slot_count > RELAY_SLOTS)
        r->slot_count = RELAY_SLOTS;
    r->slots = calloc(r->slot_count, sizeof(*r->slots));
    if (!r->slots)
        return -ENOMEM;
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", r->queue.new);
    if (watch >= 0 && inotify_add_watch(watch, path, IN_CREATE | IN_MOVED_TO) < 0)
        LOG_ERROR(LOG_WARNING, "no-watch", errno); /* mail that comes meanwhile waits for the rescan */
    memory_load(r);
    x = queue_sweep(&r->queue, relay_now(r));
    if (x < 0)
        LOG_ERROR(LOG_ERR, "sweep", x);
    x = work(r, watch);
    settle_sync(r); /* after an error something may have been removed since the last one */
    for (size_t i = 0; i < r->slot_count; i++)
        if (r->slots[i].state == SLOT_IDLE)
            (void)chain_end(&r->slots[i].child, EXIT_MS);
    memory_save(r);
    empty_new(r);
    if (r->problem < 0 && x == 0)
        x = r->problem;
    if (r->problem < 0)
        (void)poll(NULL, 0, PROBLEM_SLEEP * 1000);
    memory_finish(r);
    plan_finish(r);
    free(r->slots);
    return x;
}
