/*
 * Recipients, their targets, and one deliver for each of them. Runs with agent.c.
 */
#include "handlers/smtp/dispatch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handlers/smtp/terminal.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/route/srs_run.h"

static bool is_same_place(const struct rcpt_target *a, const struct rcpt_target *b)
{
    return a->kind == b->kind && strcmp(a->user, b->user) == 0 && strcmp(a->argument, b->argument) == 0;
}

static struct job *find_same(struct job *jobs, size_t count, const struct rcpt_target *target)
{
    for (size_t i = 0; i < count; i++)
        if (is_same_place(jobs[i].target, target))
            return &jobs[i];
    return NULL;
}

/* What we send as when an alias leads to another machine (SRS); made once for a message. Without it SPF may make the
 * receiver refuse, but the message goes out and the sender hears of that. */
static bool find_forwarder(struct smtp_agent *a)
{
    int e = a->forwarder.len > 0 ? 0 : srs_run_forward(a->conf, buf_cstr(&a->sender), &a->forwarder);

    if (e < 0)
        LOG_ERROR(LOG_WARNING, "srs-failed", e, LOG_FC("queue_id", a->id), LOG_FC("from", buf_cstr(&a->sender)));
    return e == 0;
}

/* RFC 5321 3.9.2: the owner of a list hears of its failures. A bounce stays one. */
static void set_sender(struct smtp_agent *a, struct job *j)
{
    const char *owner = j->recipient->expansion.owner;
    bool is_forwarded = j->target->kind == RCPT_REMOTE && strcmp(j->target->argument, j->recipient->address) != 0;

    if (is_forwarded && !owner && srs_is_wanted(a->conf, buf_str(&a->sender)) && find_forwarder(a))
        (void)snprintf(j->sender, sizeof(j->sender), "%s", buf_cstr(&a->forwarder));
    else if (owner && a->sender.len > 0)
        (void)snprintf(j->sender, sizeof(j->sender), "%s@%s", owner, a->conf->hostname);
    else
        (void)snprintf(j->sender, sizeof(j->sender), "%s", buf_cstr(&a->sender));
}

static size_t plan(struct smtp_agent *a, struct job *jobs)
{
    bool must_wait = a->params.hold_for > 0 || a->params.hold_until > clock_now(&a->conf->clock); /* RFC 4865 */
    size_t count = 0;

    for (size_t i = 0; i < a->count; i++) {
        const struct agent_recipient *r = &a->recipients[i];

        for (size_t k = 0; k < r->expansion.count; k++) {
            struct job *j = &jobs[count];

            j->recipient = r;
            j->target = &r->expansion.targets[k];
            j->same = find_same(jobs, count, j->target);
            j->waits = must_wait || j->target->kind == RCPT_REMOTE;
            set_sender(a, j);
            count++;
        }
    }
    return count;
}

static void log_delivery(const struct smtp_agent *a, const struct job *j)
{
    static const char *const kinds[] = {"mailbox", "command", "file", "remote"};
    const char *status = j->waits                          ? "queued"
                         : answer_is_ok(&j->answer)        ? "delivered"
                         : answer_is_temporary(&j->answer) ? "deferred"
                                                           : "refused";

    LOG_EVENT(j->waits || answer_is_ok(&j->answer) ? LOG_INFO : LOG_WARNING, "delivery", LOG_FC("queue_id", a->id),
              LOG_FC("from", j->sender), LOG_FC("to", j->recipient->address), LOG_FC("kind", kinds[j->target->kind]),
              LOG_FC("mailbox", j->target->kind == RCPT_REMOTE ? j->target->argument : j->target->user),
              LOG_FC("status", status), LOG_FC("reply", j->answer.text));
}

/* RFC 821 3.4: on the terminal. */
static void show(struct smtp_agent *a, struct job *j)
{
    bool is_taken;

    if (a->params.way == WAY_MAIL || j->target->kind != RCPT_MAILBOX || j->waits || j->same)
        return;
    is_taken = agent_need_file(a) == 0 &&
               terminal_show(j->target->user, j->target->uid, j->sender, &a->conf->clock, a->file) > 0;
    j->is_shown = a->params.way == WAY_SEND || (a->params.way == WAY_SOML && is_taken);
    if (is_taken)
        answer_set(&j->answer, 250, "2.1.5", "Shown");
    else
        answer_set(&j->answer, 450, "4.2.1", "The recipient is not logged in any more");
}

static void begin(struct smtp_agent *a, struct job *j)
{
    show(a, j);
    if (j->target->kind == RCPT_COMMAND)
        (void)agent_need_file(a); /* without one the command fails for a while */
    j->transfer = (struct transfer){
        .postmen = &a->postmen,
        .target = j->target,
        .letter = {.file = a->file, .text = a->text, .sender = j->sender, .address = j->recipient->address}};
    if (!j->same && !j->waits && !j->is_shown)
        transfer_begin(&j->transfer);
}

static void end(struct smtp_agent *a, struct job *j)
{
    if (j->same)
        j->answer = j->same->answer;
    else if (!j->waits && !j->is_shown)
        transfer_end(&j->transfer, &j->answer);
    j->is_unsure = j->same ? j->same->is_unsure : j->transfer.is_unsure;
    log_delivery(a, j);
}

/* In order, some of them at the same time: each is mostly one fsync. */
static void run(struct smtp_agent *a, struct job *jobs, size_t count)
{
    size_t begun = 0;

    for (size_t ended = 0; ended < count; ended++) {
        for (; begun < count && begun < ended + LIMIT_POSTMEN; begun++)
            begin(a, &jobs[begun]);
        end(a, &jobs[ended]);
    }
}

void dispatch_message(struct smtp_agent *a, unsigned content, struct smtp_answer *answers)
{
    _cleanup_free_ struct job *jobs = NULL;
    size_t count = 0;

    for (size_t i = 0; i < a->count; i++)
        count += a->recipients[i].expansion.count;
    jobs = calloc(count, sizeof(*jobs));
    if (!jobs) {
        for (size_t i = 0; i < a->count; i++)
            answer_set(&answers[i], 451, "4.3.0", "Out of memory");
        return;
    }
    run(a, jobs, plan(a, jobs));
    settle_message(a, content, jobs, count, answers);
}
