/*
 * Senders, recipients, the file and the delivery. Runs in the monitor as root, or in `smtp-session -bs` as the invoking
 * user; touches the user database, the queue folder and, through deliver, mailboxes.
 */
#include "handlers/smtp/agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "handlers/smtp/dispatch.h"
#include "handlers/smtp/fetch.h"
#include "handlers/smtp/room.h"
#include "handlers/smtp/terminal.h"
#include "shared/queue/xtext.h"
#include "shared/route/path.h"
#include "shared/route/scratch.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/gate/session.h"
#include "shared/queue/flush.h"

/* Of all recipients of one message: aliases multiply. All of them and a report for each recipient fit in an envelope.
 */
#define AGENT_TARGETS (QUEUE_RECIPIENTS - EXPAND_TARGETS - LIMIT_RECIPIENTS)

void agent_init(struct smtp_agent *a, struct conf *conf, bool is_root, uid_t uid)
{
    *a = (struct smtp_agent){.conf = conf,
                             .is_root = is_root,
                             .uid = uid,
                             .local = "",
                             .peer = "",
                             .sender = BUF_INIT(LIMIT_PATH),
                             .forwarder = BUF_INIT(LIMIT_PATH),
                             .file = -1,
                             .queue = QUEUE_INIT};
    postmen_init(&a->postmen, conf, is_root);
}

int agent_open_queue(struct smtp_agent *a)
{
    return a->queue.new >= 0 ? 0 : queue_open(a->conf->queue, &a->queue);
}

static void recipient_finish(struct agent_recipient *r)
{
    free(r->address);
    free(r->orcpt);
    expansion_finish(&r->expansion);
}

void agent_reset(struct smtp_agent *a)
{
    for (size_t i = 0; i < a->count; i++)
        recipient_finish(&a->recipients[i]);
    free(a->recipients);
    a->recipients = NULL;
    a->count = 0;
    a->targets = 0;
    a->has_sender = false;
    buf_clear(&a->sender);
    buf_clear(&a->forwarder);
    a->params = (struct mail_params){0};
    free(steal_ptr(a->envid));
    close_fd(&a->file);
    a->text = STR_NULL;
}

void agent_finish(struct smtp_agent *a)
{
    agent_reset(a);
    postmen_finish(&a->postmen);
    buf_finish(&a->sender);
    buf_finish(&a->forwarder);
    queue_close(&a->queue);
    free(steal_ptr(a->local_user));
}

/* The id comes back in our log lines and arguments. */
static int take_id(struct smtp_agent *a, struct str id)
{
    if (id.len == 0 || id.len >= sizeof(a->id))
        return -EBADMSG;
    for (size_t i = 0; i < id.len; i++)
        if (!ascii_is_alpha(id.ptr[i]) && !ascii_is_digit(id.ptr[i]))
            return -EBADMSG;
    memcpy(a->id, id.ptr, id.len);
    a->id[id.len] = 0;
    return 0;
}

/* Who is logged in sends as himself: an address of ours that leads to his mailbox. A bounce has no sender. */
static bool is_own_sender(const struct smtp_agent *a, const struct smtp_path *path)
{
    struct expansion x = {0};
    struct smtp_answer unused;
    bool is_own = false;
    struct str name, detail;

    if (path->is_null || a->is_trusted || str_ieq(str_from(a->conf->submission_senders), STR("any")))
        return true;
    /* His own name, wherever an alias or a .forward of his may lead. */
    (void)rcpt_split_detail(a->conf, path_local(path), &name, &detail);
    if (rcpt_is_ours(a->conf, path, a->local) &&
        (str_eq(path_local(path), str_from(a->user)) || str_eq(name, str_from(a->user))))
        return true;
    if (expand_path(a->conf, path, a->local, &x, &unused) == 0)
        for (size_t i = 0; i < x.count; i++)
            is_own |= x.targets[i].kind == RCPT_MAILBOX && strcmp(x.targets[i].user, a->user) == 0;
    expansion_finish(&x);
    return is_own;
}

/* Keeps what MAIL said. */
static int keep_envelope(struct smtp_agent *a, const struct smtp_envelope *envelope)
{
    const struct mail_params *p = &envelope->params;
    int e = 0;

    buf_clear(&a->sender);
    a->params = *p;
    a->params.envid = STR_NULL;
    a->by_deadline = p->by == QUEUE_BY_NONE ? 0 : clock_now(&a->conf->clock) + p->by_seconds;
    if (!a->may_relay && a->params.priority > 0) /* RFC 6710 4.1: strangers may only give way */
        a->params.priority = 0;
    if (p->envid.len > 0)
        e = queue_envelope_set(&a->envid, p->envid);
    return e < 0 ? e : buf_add_str(&a->sender, envelope->sender);
}

/* Seconds from now until the message is released; 0: it is not held. */
static int64_t hold_of(const struct mail_params *p, int64_t now)
{
    return p->hold_until > now ? p->hold_until - now : p->hold_for;
}

/* Why that sender or that message is not welcome. False: it is. */
static bool refuse_mail(const struct smtp_agent *a, const struct smtp_envelope *envelope, const struct smtp_path *path,
                        struct smtp_answer *ret)
{
    const struct mail_params *p = &envelope->params;
    int64_t now = clock_now(&a->conf->clock);

    if (a->needs_auth && !a->user)
        answer_set(ret, 530, "5.7.0", "Authentication required");
    else if (a->user && !is_own_sender(a, path))
        answer_set(ret, 553, "5.7.1", "<%.*s> is not an address of %s", STR_ARG(path->text), a->user);
    else if (p->size > a->conf->message_size)
        answer_set(ret, 552, "5.3.4", "Messages have %llu bytes at most here",
                   (unsigned long long)a->conf->message_size);
    else if (scratch_has_room(a->conf, p->size) == -ENOSPC)
        answer_set(ret, 452, "4.3.1", "The disk is full");
    else if (p->hold_until > now + HOLD_MAX) /* RFC 4865 4 */
        answer_set(ret, 501, "5.5.4", "A message can be held for %lld seconds at most", (long long)HOLD_MAX);
    else if (p->by == QUEUE_BY_RETURN && p->by_seconds < BY_LEAST) /* RFC 2852 3 */
        answer_set(ret, 555, "5.5.4", "BY needs %d seconds at least to return a message", BY_LEAST);
    else if (p->by != QUEUE_BY_NONE && hold_of(p, now) > 0 && hold_of(p, now) > p->by_seconds) /* RFC 4865 5.2.2 */
        answer_set(ret, 501, "5.5.4", "The message would be late before it is released");
    else
        return false;
    return true;
}

int agent_mail(struct smtp_agent *a, const struct smtp_envelope *envelope, struct smtp_answer *ret)
{
    unsigned flags = PATH_NULL_OK | PATH_BARE_OK | (envelope->params.is_utf8 ? PATH_UTF8 : 0u);
    struct smtp_path path;

    if (envelope->params.way != WAY_MAIL && !a->conf->send_to_terminal)
        return -EBADMSG;
    if (a->has_sender || path_parse_mailbox(envelope->sender, flags, &path) < 0 || take_id(a, envelope->id) < 0)
        return -EBADMSG;
    if (refuse_mail(a, envelope, &path, ret))
        return 0;
    if (keep_envelope(a, envelope) < 0) {
        answer_set(ret, 451, "4.3.0", "Out of memory");
        return 0;
    }
    a->has_sender = true;
    if (a->params.priority != envelope->params.priority)
        answer_set(ret, 250, "2.3.6", "%d is the priority of strangers", a->params.priority);
    else
        answer_set(ret, 250, "2.1.0", "Sender ok");
    return 0;
}

/* Nothing of it is done as anybody else than the user who runs this; the queue is his own. */
static bool is_self_only(const struct smtp_agent *a, const struct expansion *x)
{
    for (size_t i = 0; i < x->count; i++)
        if (x->targets[i].kind != RCPT_REMOTE && x->targets[i].uid != a->uid)
            return false;
    return true;
}

static bool is_remote(const struct expansion *x)
{
    for (size_t i = 0; i < x->count; i++)
        if (x->targets[i].kind == RCPT_REMOTE)
            return true;
    return false;
}

/* Anywhere for those whom we know; for others to whoever fetches his mail here. Without root it takes a queue of one's
 * own. 1, 0, or a negative errno. */
static int may_send_to(struct smtp_agent *a, struct str domain)
{
    if (a->may_relay)
        return a->is_root || agent_open_queue(a) == 0;
    return a->is_root ? fetch_takes(a->conf, domain) : 0;
}

/* -EBADMSG: no mailbox; other errors with the refusal in *ret. */
static int resolve(struct smtp_agent *a, struct str mailbox, bool is_utf8, struct expansion *ret_expansion,
                   struct smtp_answer *ret)
{
    struct smtp_path path;
    int may;

    if (path_parse_mailbox(mailbox, PATH_BARE_OK | (is_utf8 ? PATH_UTF8 : 0u), &path) < 0)
        return -EBADMSG;
    may = rcpt_is_ours(a->conf, &path, a->local) ? 0 : may_send_to(a, path.domain);
    if (may < 0) {
        answer_set(ret, 451, "4.3.0", "Cannot find out now whose mail that is");
        return -EIO;
    }
    if (may > 0) {
        answer_set(ret, 451, "4.3.0", "Out of memory");
        return expand_remote(path.text, ret_expansion);
    }
    return expand_path(a->conf, &path, a->local, ret_expansion, ret);
}

static int open_queue_for(struct smtp_agent *a, struct str mailbox, struct smtp_answer *ret)
{
    int e = agent_open_queue(a);

    if (e < 0) {
        LOG_ERROR(LOG_ERR, "queue-failed", e, LOG_FC("folder", a->conf->queue));
        answer_set(ret, 451, "4.3.0", "<%.*s>: the queue is not available", STR_ARG(mailbox));
    }
    return e;
}

/* SEND is for those who are there. -EHOSTUNREACH with the refusal in *ret. */
static int check_terminal(const struct smtp_agent *a, struct str mailbox, const struct expansion *x,
                          struct smtp_answer *ret)
{
    for (size_t i = 0; i < x->count && a->params.way == WAY_SEND; i++) {
        const struct rcpt_target *t = &x->targets[i];

        if (t->kind == RCPT_MAILBOX && terminal_is_open(t->user, t->uid))
            continue;
        answer_set(ret, 450, "4.2.1", "<%.*s> is not logged in, or takes no messages", STR_ARG(mailbox));
        return -EHOSTUNREACH;
    }
    return 0;
}

/* The same for a recipient: also whether we may deliver there, and can queue if it must be. */
static int resolve_recipient(struct smtp_agent *a, struct str mailbox, struct expansion *ret_expansion,
                             struct smtp_answer *ret)
{
    int e = resolve(a, mailbox, a->params.is_utf8, ret_expansion, ret);

    if (e < 0)
        return e;
    if (!a->is_root && !is_self_only(a, ret_expansion)) {
        answer_set(ret, 550, "5.7.1", "<%.*s>: without root only the user who runs this gets mail", STR_ARG(mailbox));
        e = -EPERM;
    } else if (is_remote(ret_expansion) || a->params.hold_for > 0 || a->params.hold_until > 0) {
        e = open_queue_for(a, mailbox, ret);
    }
    if (e == 0)
        e = check_terminal(a, mailbox, ret_expansion, ret);
    if (e < 0)
        expansion_finish(ret_expansion);
    return e;
}

/* A mailbox that has no room: told before the data. False: it has, or several places are meant. */
static bool refuse_full(const struct smtp_agent *a, struct str mailbox, const struct expansion *x,
                        struct smtp_answer *ret)
{
    int e;

    if (x->count != 1 || x->targets[0].kind != RCPT_MAILBOX)
        return false;
    e = room_in_mailbox(a->conf, &x->targets[0], a->params.size);
    if (e == -EFBIG)
        answer_set(ret, 552, "5.2.3", "<%.*s>: the message is larger than the mailbox may be", STR_ARG(mailbox));
    else if (e < 0)
        answer_set(ret, 452, "4.2.2", "<%.*s>: the mailbox is full", STR_ARG(mailbox));
    return e < 0;
}

/* In ASCII, so that it goes on to every next hop (RFC 6533 3). */
static char *orcpt_dup(struct str orcpt)
{
    _cleanup_buf_ struct buf ascii = BUF_INIT(ORCPT_MAX);

    if (str_is_ascii(orcpt))
        return str_dup(orcpt);
    return buf_add_str(&ascii, str_sub(orcpt, 0, 6)) == 0 && /* "utf-8;" */
                   utf8_xtext_encode(str_sub(orcpt, 6, orcpt.len), &ascii) == 0
               ? str_dup(buf_str(&ascii))
               : NULL;
}

/* Takes the expansion over. */
static int add_recipient(struct smtp_agent *a, struct str mailbox, const struct rcpt_params *params,
                         struct expansion *x)
{
    struct agent_recipient *more = reallocarray(a->recipients, a->count + 1, sizeof(*more));
    struct agent_recipient r = {.address = str_dup(mailbox), .notify = params->notify};

    if (more)
        a->recipients = more;
    if (params->orcpt.len > 0)
        r.orcpt = orcpt_dup(params->orcpt);
    if (!more || !r.address || (params->orcpt.len > 0 && !r.orcpt)) {
        recipient_finish(&r);
        return -ENOMEM;
    }
    r.expansion = *x;
    a->targets += x->count;
    a->recipients[a->count++] = r;
    *x = (struct expansion){0};
    return 0;
}

int agent_rcpt(struct smtp_agent *a, struct str mailbox, const struct rcpt_params *params, struct smtp_answer *ret)
{
    struct expansion x = {0};
    int e;

    if (!a->has_sender)
        return -EBADMSG;
    if (a->count >= LIMIT_RECIPIENTS || a->targets >= AGENT_TARGETS) {
        answer_set(ret, 452, "4.5.3", "Too many recipients, send the rest in another transaction");
        return 0;
    }
    e = resolve_recipient(a, mailbox, &x, ret);
    if (e == -EBADMSG)
        return e;
    if (e < 0)
        return 0;
    if (refuse_full(a, mailbox, &x, ret)) {
        expansion_finish(&x);
        return 0;
    }
    e = add_recipient(a, mailbox, params, &x);
    expansion_finish(&x);
    if (e < 0)
        answer_set(ret, 451, "4.3.0", "Out of memory");
    else
        answer_set(ret, 250, "2.1.5", "Recipient ok");
    return 0;
}

int agent_vrfy(struct smtp_agent *a, struct str mailbox, struct smtp_answer *ret)
{
    struct expansion x = {0};
    int e;

    if (!a->tells_truth) {
        answer_set(ret, 252, "2.5.0", "Cannot say; send a message and see");
        return 0;
    }
    e = resolve(a, mailbox, true, &x, ret);
    if (e == 0 && x.count == 1 && x.targets[0].kind == RCPT_MAILBOX)
        answer_set(ret, 250, "2.1.5", "<%s@%s>", x.targets[0].user, a->conf->hostname);
    else if (e == 0) /* RFC 5321 3.5.2: a list, EXPN tells its members */
        answer_set(ret, 250, "2.1.5", "<%.*s>", STR_ARG(mailbox));
    expansion_finish(&x);
    return e == -EBADMSG ? e : 0;
}

int agent_own(struct smtp_agent *a, struct str mailbox, struct smtp_answer *ret)
{
    struct smtp_path path;

    if (!a->user)
        return -EBADMSG;
    if (path_parse_mailbox(mailbox, PATH_BARE_OK | PATH_UTF8, &path) == 0 && is_own_sender(a, &path))
        answer_set(ret, 250, "2.1.0", "An address of %s", a->user);
    else
        answer_set(ret, 553, "5.7.1", "Not an address of %s", a->user);
    return 0;
}

/* One line of EXPN (RFC 5321 3.5.2) for each place; the text says what kind of place it is. Which command or file it is
 * may stand in a .forward that only its user can read. */
static void describe(const struct smtp_agent *a, const struct rcpt_target *t, struct smtp_answer *ret)
{
    bool is_his = !a->is_root || (a->local_user && a->local_uid == 0) || (a->user && strcmp(a->user, t->user) == 0);

    if (t->kind == RCPT_COMMAND)
        answer_set(ret, 250, "2.1.5", "%s%s, run by %s", is_his ? "|" : "A command", is_his ? t->argument : "",
                   t->user);
    else if (t->kind == RCPT_FILE)
        answer_set(ret, 250, "2.1.5", "%s, written by %s", is_his ? t->argument : "A file", t->user);
    else if (t->kind == RCPT_REMOTE)
        answer_set(ret, 250, "2.1.5", "<%s>", t->argument);
    else
        answer_set(ret, 250, "2.1.5", "<%s@%s>", t->user, a->conf->hostname);
}

int agent_expn(struct smtp_agent *a, struct str mailbox, struct smtp_answer *ret, size_t *count)
{
    struct expansion x = {0};
    size_t room = *count;
    int e = 0;

    *count = 1;
    if (!a->tells_truth) {
        answer_set(ret, 252, "2.5.0", "Cannot say; send a message and see");
        return 0;
    }
    e = resolve(a, mailbox, true, &x, ret);
    if (e == 0) {
        *count = x.count < room ? x.count : room;
        for (size_t i = 0; i < *count; i++)
            describe(a, &x.targets[i], &ret[i]);
    }
    expansion_finish(&x);
    return e == -EBADMSG ? e : 0;
}

/* RFC 1985 5.3. A queue run costs us work: strangers may not start one. */
int agent_etrn(struct smtp_agent *a, struct str node, struct smtp_answer *ret)
{
    struct queue_flush counts = {0};
    struct str domain = str_starts(node, STR("@")) ? str_sub(node, 1, node.len) : node;
    int e;

    if (!path_is_domain(domain, true))
        return -EBADMSG;
    if (!a->tells_truth) {
        answer_set(ret, 459, "4.7.1", "Not for this client");
        return 0;
    }
    e = agent_open_queue(a);
    if (e == 0)
        e = queue_flush(&a->queue, node, clock_now(&a->conf->clock), &counts);
    if (e < 0) {
        LOG_ERROR(LOG_ERR, "etrn-failed", e, {"node", node});
        answer_set(ret, 458, "4.3.0", "The queue is not available");
        return 0;
    }
    LOG_EVENT(LOG_INFO, "etrn", {"node", node});
    if (counts.found == 0)
        answer_set(ret, 251, "2.0.0", "No messages wait for %.*s", STR_ARG(node));
    else
        answer_set(ret, 253, "2.0.0", "%zu messages for %.*s are being sent", counts.found, STR_ARG(node));
    return 0;
}
