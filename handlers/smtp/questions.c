/*
 * What smtp-session asks. Runs in the monitor as root: a frame is taken apart and checked whole before anything is done
 * about it, and one that no session of ours would send ends the connection.
 */
#include "handlers/smtp/service.h"

#include <errno.h>
#include <stdlib.h>

#include "handlers/smtp/fetch.h"
#include "handlers/smtp/frames.h"
#include "handlers/smtp/listing.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/gate/throttle.h"
#include "shared/route/path.h"

#define LEAVE_MS 5000 /* of a session that has said its last word */

static int send_answer(const struct monitor *m, const struct smtp_answer *a, int fd)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e;

    frame_begin(&f, FRAME_SMTP_ANSWER);
    e = frame_put_u32(&f, a->code);
    if (e == 0)
        e = frame_put_str(&f, str_from(a->enhanced));
    if (e == 0)
        e = frame_put_str(&f, str_from(a->text));
    if (e == 0)
        e = frame_send(m->front.control, &f, fd);
    return e == -EPIPE ? 0 : e; /* a session that is gone: the loop will notice */
}

static struct policy *policy_of(const struct monitor *m)
{
    return &((struct service *)m->own)->policy;
}

/* The agent with the facts of this moment. */
static struct smtp_agent *agent_of(struct monitor *m)
{
    struct smtp_agent *a = &((struct service *)m->own)->agent;

    a->local = m->peer.local;
    a->peer = a->local_user ? "" : m->peer.address; /* made on this machine */
    a->user = m->user ? m->user->name : a->local_user;
    /* Who we know, and who is where the admin says; loopback is no such place by itself, since any proxy on this
     * machine would make it one. */
    a->may_relay = a->user || peer_in_networks(m->peer.address, str_from(m->conf->networks));
    /* What comes through a socket of ours may come from anywhere: relay fetches mail so (RFC 2645). */
    a->tells_truth = (m->peer.is_loopback && m->peer.kind == PEER_INET) || a->may_relay;
    return a;
}

/* What a stranger says about itself is never believed; who speaks must be one of ours, also where a proxy that is one
 * has brought him. */
static bool is_xclient_believed(const struct monitor *m)
{
    const struct service *s = m->own;

    return !s->agent.local_user && !s->is_told &&
           peer_in_networks(m->peer.address, str_from(m->conf->networks_xclient));
}

/* The client is there: from here on its address is what counts, until XCLIENT says another one. */
static void look_at_client(struct monitor *m)
{
    struct service *s = m->own;

    if (s->is_known)
        return;
    s->is_known = true;
    if (m->conf->connection_rate > 0 && m->peer.kind == PEER_INET && !m->peer.is_loopback &&
        !peer_in_networks(m->peer.address, str_from(m->conf->policy_exempt)) &&
        throttle_connections(m->conf, m->peer.address, clock_now(&m->conf->clock)) > m->conf->connection_rate) {
        s->unwelcome = "Too many connections from your address, try again later";
        LOG_EVENT(LOG_NOTICE, "policy-refused", LOG_FC("check", "connection_rate"), LOG_FC("host", m->peer.address),
                  LOG_FC("reply", "4.7.0"));
        return;
    }
    policy_begin(&s->policy, &m->peer);
}

static int on_facts(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    const struct service *s = m->own;
    _cleanup_frame_ struct frame out = FRAME_INIT;
    int e = frame_end(in);

    if (e < 0)
        return e;
    look_at_client(m);
    frame_begin(&out, FRAME_SMTP_FACTS);
    e = frame_put_str(&out, str_from(m->is_tls ? m->tls.cipher : ""));
    if (e == 0)
        e = frame_put_u32(&out, m->peer.is_loopback);
    if (e == 0)
        e = frame_put_u32(&out, is_xclient_believed(m));
    if (e == 0)
        e = frame_put_u32(&out, s->policy.is_wanted);
    if (e == 0)
        e = frame_put_u32(&out, fetch_is_offered(m->conf));
    if (e == 0)
        e = frame_put_str(&out, str_from(s->unwelcome));
    if (e == 0)
        e = frame_put_str(&out, str_from(s->agent.local_user));
    if (e == 0)
        e = frame_put_u32(&out, s->agent.local_uid);
    if (e == 0)
        e = frame_send(m->front.control, &out, -1);
    return e == -EPIPE ? 0 : e;
}

static int on_hello(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    _cleanup_frame_ struct frame out = FRAME_INIT;
    struct str name;
    int e;

    if (frame_get_str(in, LIMIT_DOMAIN, &name) < 0 || frame_end(in) < 0 || !path_is_helo(name))
        return -EBADMSG;
    frame_begin(&out, FRAME_SMTP_NAME);
    e = frame_put_str(&out, str_from(policy_hello(policy_of(m), name)));
    if (e == 0)
        e = frame_send(m->front.control, &out, -1);
    return e == -EPIPE ? 0 : e;
}

struct rcpt_question {
    struct str mailbox;
    struct rcpt_params params;
};

static int get_rcpt(struct frame_reader *in, struct rcpt_question *ret)
{
    *ret = (struct rcpt_question){0};
    if (frame_get_str(in, LIMIT_PATH, &ret->mailbox) < 0 || frame_get_u32(in, &ret->params.notify) < 0 ||
        frame_get_str(in, ORCPT_MAX, &ret->params.orcpt) < 0 || !param_rcpt_is_valid(&ret->params))
        return -EBADMSG;
    return 0;
}

static int take_mail(struct monitor *m, const struct smtp_envelope *envelope, struct smtp_answer *ret)
{
    ((struct service *)m->own)->refusal.code = 0;
    return agent_mail(agent_of(m), envelope, ret);
}

static int take_rcpt(struct monitor *m, const struct rcpt_question *q, struct smtp_answer *ret)
{
    const struct service *s = m->own;
    struct smtp_agent *a = agent_of(m);

    if (s->refusal.code != 0) {
        *ret = s->refusal;
        return 0;
    }
    if (a->has_sender && !a->may_relay && !policy_admits(policy_of(m), buf_str(&a->sender), q->mailbox, ret))
        return 0;
    return agent_rcpt(a, q->mailbox, &q->params, ret);
}

static int take_first_rcpt(struct monitor *m, const struct smtp_envelope *envelope, const struct rcpt_question *q,
                           struct smtp_answer *ret)
{
    int e = take_mail(m, envelope, ret);

    if (e == 0 && !answer_is_ok(ret))
        ((struct service *)m->own)->refusal = *ret;
    return e < 0 ? e : take_rcpt(m, q, ret);
}

static int on_mail(void *context, struct frame *f, struct frame_reader *in)
{
    struct smtp_envelope envelope = {0};
    struct smtp_answer answer;
    int e;

    if (frames_get_envelope(in, &envelope) < 0 || frame_end(in) < 0)
        return -EBADMSG;
    e = take_mail(context, &envelope, &answer);
    return e < 0 ? e : send_answer(context, &answer, -1);
}

static int on_rcpt(void *context, struct frame *f, struct frame_reader *in)
{
    struct rcpt_question q;
    struct smtp_answer answer;
    int e;

    if (get_rcpt(in, &q) < 0 || frame_end(in) < 0)
        return -EBADMSG;
    e = take_rcpt(context, &q, &answer);
    return e < 0 ? e : send_answer(context, &answer, -1);
}

static int on_first_rcpt(void *context, struct frame *f, struct frame_reader *in)
{
    struct smtp_envelope envelope = {0};
    struct rcpt_question q;
    struct smtp_answer answer;
    int e;

    if (frames_get_envelope(in, &envelope) < 0 || get_rcpt(in, &q) < 0 || frame_end(in) < 0)
        return -EBADMSG;
    e = take_first_rcpt(context, &envelope, &q, &answer);
    return e < 0 ? e : send_answer(context, &answer, -1);
}

static int answer_about(struct monitor *m, struct frame_reader *in,
                        int (*ask)(struct smtp_agent *a, struct str text, struct smtp_answer *ret))
{
    struct smtp_answer answer;
    struct str text;
    int e;

    if (frame_get_str(in, LIMIT_PATH, &text) < 0 || frame_end(in) < 0)
        return -EBADMSG;
    e = ask(agent_of(m), text, &answer);
    return e < 0 ? e : send_answer(m, &answer, -1);
}

static int on_vrfy(void *context, struct frame *f, struct frame_reader *in)
{
    return answer_about(context, in, agent_vrfy);
}

static int on_own(void *context, struct frame *f, struct frame_reader *in)
{
    return answer_about(context, in, agent_own);
}

static int on_etrn(void *context, struct frame *f, struct frame_reader *in)
{
    return answer_about(context, in, agent_etrn);
}

static int on_atrn(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    struct service *s = m->own;
    struct smtp_answer answer;
    struct str list;
    int e;

    if (frame_get_str(in, LIMIT_LINE_SMTP, &list) < 0 || frame_end(in) < 0 || !m->user)
        return -EBADMSG;
    e = fetch_ask(agent_of(m), list, &s->fetched, &answer);
    if (e == 0 && !answer_is_ok(&answer))
        buf_clear(&s->fetched);
    return e < 0 ? e : send_answer(m, &answer, -1);
}

/* The session has told the client, and is on its way out. */
static int on_turn(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    struct service *s = m->own;
    int e = frame_end(in);

    if (e < 0 || s->fetched.len == 0)
        return -EBADMSG;
    (void)chain_end(&m->front, LEAVE_MS);
    e = fetch_run(m->conf, buf_cstr(&s->fetched), m->connection);
    if (e < 0)
        LOG_ERROR(LOG_ERR, "atrn-failed", e, LOG_FC("user", m->user->name));
    m->phase = MONITOR_END;
    return 0;
}

static int send_count(const struct monitor *m, size_t count)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int e;

    frame_begin(&f, FRAME_SMTP_COUNT);
    e = frame_put_u32(&f, (uint32_t)count);
    if (e == 0)
        e = frame_send(m->front.control, &f, -1);
    return e == -EPIPE ? 0 : e;
}

static int on_expn(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    _cleanup_free_ struct smtp_answer *answers = calloc(BACKEND_EXPN, sizeof(*answers));
    size_t count = BACKEND_EXPN;
    struct str mailbox;
    int e;

    if (!answers)
        return -ENOMEM;
    if (frame_get_str(in, LIMIT_PATH, &mailbox) < 0 || frame_end(in) < 0)
        return -EBADMSG;
    e = agent_expn(agent_of(m), mailbox, answers, &count);
    if (e == 0)
        e = send_count(m, count);
    for (size_t i = 0; i < count && e == 0; i++)
        e = send_answer(m, &answers[i], -1);
    return e;
}

static int on_larger(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    struct smtp_answer answer;
    int fd = -1;
    int e = frame_end(in);

    if (e == 0)
        e = agent_larger(agent_of(m), &answer, &fd);
    return e < 0 ? e : send_answer(m, &answer, fd);
}

static int get_content(struct frame_reader *in, struct smtp_content *ret)
{
    return frame_get_u32(in, &ret->traits) < 0 || frame_get_str(in, LIMIT_FRAME, &ret->text) < 0 ? -EBADMSG
                                                                                                 : frame_end(in);
}

static int on_commit(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    struct smtp_agent *a = agent_of(m);
    _cleanup_free_ struct smtp_answer *answers = NULL;
    struct smtp_content content = {0};
    uint32_t count = 0;
    int e;

    if (frame_get_u32(in, &count) < 0 || get_content(in, &content) < 0 || count == 0 || count != a->count)
        return -EBADMSG;
    answers = calloc(count, sizeof(*answers));
    if (!answers)
        return -ENOMEM;
    e = agent_commit(a, &content, answers, count);
    for (size_t i = 0; i < count && e == 0; i++)
        e = send_answer(m, &answers[i], -1);
    return e;
}

/* The one recipient was promised: what is against him is the answer to the message. */
static int on_whole(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    struct service *s = m->own;
    struct smtp_envelope envelope = {0};
    struct rcpt_question q;
    struct smtp_content content = {0};
    struct smtp_answer answer;
    int e;

    if (frames_get_envelope(in, &envelope) < 0 || get_rcpt(in, &q) < 0 || get_content(in, &content) < 0)
        return -EBADMSG;
    e = take_first_rcpt(m, &envelope, &q, &answer);
    if (e == 0 && answer_is_ok(&answer)) {
        e = agent_commit(agent_of(m), &content, &answer, 1);
    } else if (e == 0) {
        LOG_EVENT(LOG_NOTICE, "message-refused", {"queue_id", envelope.id}, {"from", envelope.sender},
                  LOG_FC("reply", answer.text));
        agent_reset(&s->agent);
        s->refusal.code = 0;
    }
    return e < 0 ? e : send_answer(m, &answer, -1);
}

static int on_xclient(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    struct smtp_answer answer;
    struct peer peer;
    struct str address;
    uint32_t port = 0;
    int e;

    if (frame_get_str(in, LIMIT_ADDRESS, &address) < 0 || frame_get_u32(in, &port) < 0 || port > UINT16_MAX ||
        frame_end(in) < 0)
        return -EBADMSG;
    if (!is_xclient_believed(m) || m->user)
        return -EPERM;
    if (peer_from_text(address, (uint16_t)port, str_from(m->peer.local), m->peer.local_port, &peer) < 0) {
        answer_set(&answer, 501, "5.5.4", "That is not an address");
        return send_answer(m, &answer, -1);
    }
    m->peer = peer;
    m->peer.is_loopback = false; /* loopback is what the kernel says */
    ((struct service *)m->own)->is_told = true;
    policy_begin(policy_of(m), &m->peer);
    answer_set(&answer, 220, "", "%s ESMTP Pennypost", m->conf->hostname);
    e = send_answer(m, &answer, -1);
    return e < 0 ? e : monitor_send_facts(m); /* what may be offered is another matter for another client */
}

static int on_queue(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    _cleanup_close_ int fd = -1;
    struct smtp_answer answer;
    int e = frame_end(in);

    if (e == 0 && !agent_of(m)->local_user)
        e = -EPERM;
    if (e == 0)
        e = listing_make(agent_of(m), &answer, &fd);
    return e < 0 ? e : send_answer(m, &answer, fd);
}

static int on_reset(void *context, struct frame *f, struct frame_reader *in)
{
    struct monitor *m = context;
    int e = frame_end(in);

    ((struct service *)m->own)->refusal.code = 0;
    if (e == 0)
        agent_reset(agent_of(m));
    return e;
}

#define TALKING (MONITOR_IN(MONITOR_OPEN) | MONITOR_IN(MONITOR_DONE))

static const struct permit ROWS[] = {
    {FRAME_SMTP_FACTS_WANTED, 0, TALKING, on_facts},
    {FRAME_SMTP_HELLO, 0, TALKING, on_hello},
    {FRAME_SMTP_MAIL, 0, TALKING, on_mail},
    {FRAME_SMTP_FIRST_RCPT, 0, TALKING, on_first_rcpt},
    {FRAME_SMTP_RCPT, 0, TALKING, on_rcpt},
    {FRAME_SMTP_VRFY, 0, TALKING, on_vrfy},
    {FRAME_SMTP_OWN, 0, MONITOR_IN(MONITOR_DONE), on_own},
    {FRAME_SMTP_EXPN, 0, TALKING, on_expn},
    {FRAME_SMTP_ETRN, 0, TALKING, on_etrn},
    {FRAME_SMTP_ATRN, 0, MONITOR_IN(MONITOR_DONE), on_atrn},
    {FRAME_SMTP_TURN, 1, MONITOR_IN(MONITOR_DONE), on_turn},
    {FRAME_SMTP_LARGER, 0, TALKING, on_larger},
    {FRAME_SMTP_COMMIT, 0, TALKING, on_commit},
    {FRAME_SMTP_WHOLE, 0, TALKING, on_whole},
    {FRAME_SMTP_QUEUE, 0, TALKING, on_queue},
    {FRAME_SMTP_RESET, 0, TALKING, on_reset},
    {FRAME_SMTP_XCLIENT, 0, MONITOR_IN(MONITOR_OPEN), on_xclient},
};

void service_questions(struct monitor_protocol *p)
{
    p->rows = ROWS;
    p->row_count = ARRAY_SIZE(ROWS);
}
