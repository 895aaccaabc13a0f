/*
 * What `pennypost queue` does to one entry. Runs as root; reads and changes the queue under the entry's lock, like
 * relay.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "handlers/admin/queue.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"

#define PRINT_MAX (64u << 20) /* of one entry: 10 000 recipients with long replies */

/* ---- looking ---- */

static int print_entry(struct queue_job *j, const char *id, bool is_brief)
{
    _cleanup_queue_envelope_ struct queue_envelope envelope = QUEUE_ENVELOPE_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(PRINT_MAX);
    int64_t now = clock_now(&j->conf->clock);
    int e = queue_peek(&j->queue, id, &envelope);

    if (e < 0)
        return e;
    if (j->is_json)
        e = queue_print_json(id, queue_message_size(&j->queue, id), &envelope, &text);
    else if (is_brief)
        e = queue_print_brief(id, queue_message_size(&j->queue, id), &envelope, now, 5, &text);
    else
        e = queue_print_full(id, queue_message_size(&j->queue, id), &envelope, now, &text);
    if (e == 0)
        (void)printf("%s%s", j->is_json ? j->done > 0 ? ",\n" : "\n" : "", buf_cstr(&text));
    return e;
}

int queue_act_list(struct queue_job *j, const char *id)
{
    return print_entry(j, id, true);
}

static int print_message(struct queue_job *j, const char *id)
{
    _cleanup_close_ int fd = -1;
    char bytes[32u << 10];
    ssize_t n = 0;
    int e = queue_peek_message(&j->queue, id, &fd);

    if (e < 0)
        return e;
    (void)printf("\n");
    while ((n = read(fd, bytes, sizeof(bytes))) > 0)
        if (fwrite(bytes, 1, (size_t)n, stdout) != (size_t)n)
            return -EIO;
    return n < 0 ? -errno : 0;
}

int queue_act_show(struct queue_job *j, const char *id)
{
    int e = print_entry(j, id, false);

    return e == 0 && j->with_message ? print_message(j, id) : e;
}

/* ---- changing ---- */

static void note(const char *id, const char *what)
{
    LOG_EVENT(LOG_NOTICE, "queue-changed", LOG_FC("queue_id", id), LOG_FC("action", what));
}

/* Takes the entry, lets `change` alter its envelope, and writes that back. */
static int change_entry(struct queue_job *j, const char *id,
                        void (*change)(struct queue_job *, struct queue_envelope *), const char *what)
{
    _cleanup_queue_entry_ struct queue_entry entry = QUEUE_ENTRY_INIT;
    int e = queue_take(&j->queue, id, &entry);

    if (e < 0)
        return e;
    change(j, &entry.envelope);
    e = queue_update(&j->queue, &entry);
    if (e == 0)
        note(id, what);
    return e;
}

static void make_due(struct queue_job *j, struct queue_envelope *env)
{
    env->next_attempt = 0;
    env->hold_until = 0;
    for (size_t i = 0; i < env->count; i++)
        if (!queue_recipient_is_done(&env->recipients[i]))
            env->recipients[i].next_attempt = 0;
    j->wants_run = true;
}

int queue_act_retry(struct queue_job *j, const char *id)
{
    return change_entry(j, id, make_due, "retry");
}

static void hold(struct queue_job *j, struct queue_envelope *env)
{
    env->is_held = true;
}

int queue_act_hold(struct queue_job *j, const char *id)
{
    return change_entry(j, id, hold, "hold");
}

static void release(struct queue_job *j, struct queue_envelope *env)
{
    env->is_held = false;
    make_due(j, env);
}

int queue_act_release(struct queue_job *j, const char *id)
{
    return change_entry(j, id, release, "release");
}

int queue_act_remove(struct queue_job *j, const char *id)
{
    _cleanup_queue_entry_ struct queue_entry entry = QUEUE_ENTRY_INIT;
    int e = queue_take(&j->queue, id, &entry);

    if (e == 0)
        e = queue_remove(&j->queue, &entry);
    if (e == 0)
        note(id, "remove");
    return e;
}

/* Every recipient that waits has failed for good; the next run tells the sender as of any other failure. */
static void fail(struct queue_job *j, struct queue_envelope *env)
{
    char reply[600];
    int64_t now = clock_now(&j->conf->clock);

    /* RFC 3463 3.8: not a fault of address, host or network */
    (void)snprintf(reply, sizeof(reply), "554 5.7.0 %s",
                   j->reason ? j->reason : "The administrator returned this message");
    env->next_attempt = 0;
    env->is_held = false;
    env->hold_until = 0;
    for (size_t i = 0; i < env->count; i++) {
        struct queue_recipient *r = &env->recipients[i];

        if (queue_recipient_is_done(r))
            continue;
        if (queue_envelope_set(&r->reply, str_from(reply)) < 0)
            continue; /* out of memory: it stays as it was */
        free(steal_ptr(r->host));
        r->state = QUEUE_FAILED;
        r->last_attempt = now;
        r->next_attempt = 0;
    }
    j->wants_run = true;
}

int queue_act_bounce(struct queue_job *j, const char *id)
{
    return change_entry(j, id, fail, "bounce");
}
