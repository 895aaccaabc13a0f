/*
 * The asker's side of `resolve`. Runs in trusted processes: the monitor of smtp, relay.
 */
#include "shared/dns/dns.h"

#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>

#include "shared/base/clock.h"
#include "shared/gate/sandbox.h"
#include "shared/io/frame_types.h"

#define END_MS   1000 /* until a resolver that was told to leave is killed */
#define SPARE_MS 500  /* longer than resolve waits, so that its own words arrive */

void dns_init(struct dns *d, const struct conf *conf)
{
    *d = (struct dns){.conf = conf, .child = CHAIN_CHILD_NONE, .timeout_ms = TIMEOUT_DNS * 1000};
}

void dns_finish(struct dns *d)
{
    if (d->child.pid > 0)
        (void)chain_end(&d->child, END_MS);
}

int dns_question_name(struct dns_question *q, struct str name)
{
    name = dns_name_trim(name);
    if (!dns_name_is_host(name))
        return -EINVAL;
    for (size_t i = 0; i < name.len; i++)
        q->name[i] = ascii_lower(name.ptr[i]);
    q->name[name.len] = '\0';
    return 0;
}

void dns_question_finish(struct dns_question *q)
{
    dns_answer_finish(&q->answer);
    q->id = 0;
}

/* The question has its answer: nobody knows, and why. */
static void fail(struct dns_question *q, const char *reason)
{
    dns_answer_finish(&q->answer);
    if (buf_add_str(&q->answer.memory, str_from(reason)) == 0)
        q->answer.reason = buf_str(&q->answer.memory);
    q->id = 0;
}

static int start_child(struct dns *d)
{
    struct chain_spec spec = {CHAIN_SPEC("resolve"), .has_control = true};

    if (d->child.pid > 0)
        return 0;
    if (d->starts >= LIMIT_DNS_STARTS)
        return -ECHILD;
    d->starts++;
    spec.arguments[0] = d->conf->dns_servers[0] ? d->conf->dns_servers : NULL;
    spec.fds[2] = sandbox_is_built() ? CHAIN_NULL : CHAIN_KEEP; /* sanitizers write there */
    return chain_spawn(&spec, &d->child);
}

/* It died or talks nonsense. What was under way is lost; the next question starts another one. */
static void drop_child(struct dns *d, struct dns_question *q, size_t count)
{
    char text[64] = "resolve: ";
    int status = chain_end(&d->child, 0);

    chain_status_text(status < 0 ? 0 : status, text + strlen(text));
    for (size_t i = 0; i < count; i++)
        if (q[i].id != 0)
            fail(&q[i], text);
}

void dns_start(struct dns *d, struct dns_question *q)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct dns_ask ask = {.type = q->type, .name = str_from(q->name), .milliseconds = d->timeout_ms};
    int r;

    dns_question_finish(q);
    if (ask.name.len == 0) {
        q->answer.status = DNS_NXDOMAIN;
        return;
    }
    r = start_child(d);
    if (++d->last_id == 0)
        d->last_id = 1;
    ask.id = d->last_id;
    if (r == 0)
        r = dns_ask_encode(&ask, &f);
    if (r == 0)
        r = frame_send(d->child.control, &f, -1);
    if (r < 0) {
        fail(q, r == -ECHILD ? "resolve cannot be started" : strerror(-r));
        if (d->child.pid > 0)
            drop_child(d, NULL, 0);
        return;
    }
    q->id = ask.id;
    q->deadline = clock_monotonic_ms() + (int64_t)d->timeout_ms + SPARE_MS;
}

/* -EBADMSG: nonsense. Answers to questions that nobody waits for any more are fine. */
static int take_answer(struct dns_question *q, size_t count, struct frame *f)
{
    uint32_t id = 0;
    int r = dns_answer_id(f, &id);

    for (size_t i = 0; i < count && r == 0; i++) {
        if (q[i].id != id || id == 0)
            continue;
        r = dns_answer_decode(f, q[i].type, &q[i].answer);
        if (r == 0)
            q[i].id = 0;
        return r;
    }
    return r;
}

/* Milliseconds until the first deadline of the `needed` ones; -1: they have their answers. Those whose time is up fail
 * here. */
static int next_deadline(struct dns_question *q, size_t count, size_t needed)
{
    int64_t now = clock_monotonic_ms();
    int64_t left = -1;

    for (size_t i = 0; i < count; i++) {
        if (q[i].id == 0)
            continue;
        if (q[i].deadline <= now)
            fail(&q[i], "timed out");
        else if (i < needed && (left < 0 || q[i].deadline - now < left))
            left = q[i].deadline - now;
    }
    return (int)left;
}

void dns_wait(struct dns *d, struct dns_question *q, size_t count)
{
    dns_wait_first(d, q, count, count);
}

void dns_wait_first(struct dns *d, struct dns_question *q, size_t count, size_t needed)
{
    int left;

    while ((left = next_deadline(q, count, needed)) >= 0) {
        _cleanup_frame_ struct frame f = FRAME_INIT;
        int r = d->child.pid > 0 ? frame_recv(d->child.control, &f, left) : -ENODATA;

        if (r == 0)
            r = take_answer(q, count, &f);
        if (r < 0 && r != -ETIMEDOUT)
            drop_child(d, q, count);
    }
}

void dns_ask(struct dns *d, struct dns_question *q, size_t count)
{
    for (size_t done = 0; done < count;) {
        size_t n = count - done < LIMIT_DNS_OPEN ? count - done : LIMIT_DNS_OPEN;

        for (size_t i = 0; i < n; i++)
            dns_start(d, &q[done + i]);
        dns_wait(d, q + done, n);
        done += n;
    }
}
