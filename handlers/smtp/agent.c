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

#include "handlers/smtp/path.h"
#include "handlers/smtp/spool.h"
#include "handlers/smtp/transfer.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"

#define AGENT_PARALLEL 8 /* deliveries of one message at the same time */

void agent_init(struct smtp_agent *a, struct conf *conf)
{
    *a = (struct smtp_agent){.conf = conf, .local = "", .sender = BUF_INIT(LIMIT_PATH), .file = -1};
}

static void recipient_finish(struct agent_recipient *r)
{
    free(r->address);
    rcpt_target_finish(&r->target);
}

void agent_reset(struct smtp_agent *a)
{
    for (size_t i = 0; i < a->count; i++)
        recipient_finish(&a->recipients[i]);
    free(a->recipients);
    a->recipients = NULL;
    a->count = 0;
    a->has_sender = false;
    buf_clear(&a->sender);
    close_fd(&a->file);
}

void agent_finish(struct smtp_agent *a)
{
    agent_reset(a);
    buf_finish(&a->sender);
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

/* Who is logged in sends as himself: one of our domains, his name, any detail. A bounce has no sender. */
static bool is_own_sender(const struct smtp_agent *a, const struct smtp_path *path)
{
    struct rcpt_target target = {0};
    struct smtp_answer unused;
    bool is_own;

    if (path->is_null || str_ieq(str_from(a->conf->submission_senders), STR("any")))
        return true;
    is_own = rcpt_resolve(a->conf, path, a->local, &target, &unused) == 0 && strcmp(target.user, a->user) == 0;
    rcpt_target_finish(&target);
    return is_own;
}

int agent_mail(struct smtp_agent *a, const struct smtp_envelope *envelope, struct smtp_answer *ret)
{
    unsigned flags = PATH_NULL_OK | PATH_BARE_OK | (envelope->is_utf8 ? PATH_UTF8 : 0u);
    struct smtp_path path;
    int e;

    if (a->has_sender || path_parse_mailbox(envelope->sender, flags, &path) < 0 || take_id(a, envelope->id) < 0)
        return -EBADMSG;
    if (a->needs_auth && !a->user) {
        answer_set(ret, 530, "5.7.0", "Authentication required");
        return 0;
    }
    if (a->user && !is_own_sender(a, &path)) {
        answer_set(ret, 553, "5.7.1", "<%.*s> is not an address of %s", STR_ARG(path.text), a->user);
        return 0;
    }
    if (envelope->size > a->conf->message_size) {
        answer_set(ret, 552, "5.3.4", "Messages have %llu bytes at most here",
                   (unsigned long long)a->conf->message_size);
        return 0;
    }
    if (spool_has_room(a->conf, envelope->size) == -ENOSPC) {
        answer_set(ret, 452, "4.3.1", "The disk is full");
        return 0;
    }
    buf_clear(&a->sender);
    e = buf_add_str(&a->sender, envelope->sender);
    if (e < 0) {
        answer_set(ret, 451, "4.3.0", "Out of memory");
        return 0;
    }
    a->has_sender = true;
    a->is_utf8 = envelope->is_utf8;
    answer_set(ret, 250, "2.1.0", "Sender ok");
    return 0;
}

static bool is_self_only(const struct smtp_agent *a, const struct rcpt_target *target, struct str mailbox,
                         struct smtp_answer *ret)
{
    if (a->is_root || target->uid == a->uid)
        return true;
    answer_set(ret, 550, "5.7.1", "<%.*s>: a session on a pipe delivers to the user who started it", STR_ARG(mailbox));
    return false;
}

static int resolve(struct smtp_agent *a, struct str mailbox, bool is_utf8, struct rcpt_target *ret_target,
                   struct smtp_answer *ret)
{
    struct smtp_path path;
    int e;

    if (path_parse_mailbox(mailbox, PATH_BARE_OK | (is_utf8 ? PATH_UTF8 : 0u), &path) < 0)
        return -EBADMSG;
    e = rcpt_resolve(a->conf, &path, a->local, ret_target, ret);
    if (e == 0 && !is_self_only(a, ret_target, mailbox, ret)) {
        rcpt_target_finish(ret_target);
        e = -EPERM;
    }
    return e;
}

static int add_recipient(struct smtp_agent *a, struct str mailbox, struct rcpt_target *target)
{
    struct agent_recipient *more = reallocarray(a->recipients, a->count + 1, sizeof(*more));
    char *address = str_dup(mailbox);

    if (more)
        a->recipients = more;
    if (!more || !address) {
        free(address);
        return -ENOMEM;
    }
    a->recipients[a->count++] = (struct agent_recipient){.address = address, .target = *target};
    *target = (struct rcpt_target){0};
    return 0;
}

int agent_rcpt(struct smtp_agent *a, struct str mailbox, struct smtp_answer *ret)
{
    struct rcpt_target target = {0};
    int e;

    if (!a->has_sender || a->file >= 0)
        return -EBADMSG;
    if (a->count >= LIMIT_RECIPIENTS) {
        answer_set(ret, 452, "4.5.3", "Too many recipients, send the rest in another transaction");
        return 0;
    }
    e = resolve(a, mailbox, a->is_utf8, &target, ret);
    if (e == -EBADMSG)
        return e;
    if (e < 0)
        return 0;
    e = add_recipient(a, mailbox, &target);
    rcpt_target_finish(&target);
    if (e < 0)
        answer_set(ret, 451, "4.3.0", "Out of memory");
    else
        answer_set(ret, 250, "2.1.5", "Recipient ok");
    return 0;
}

int agent_vrfy(struct smtp_agent *a, struct str mailbox, struct smtp_answer *ret)
{
    struct rcpt_target target = {0};
    int e;

    if (!a->tells_truth) {
        answer_set(ret, 252, "2.5.2", "Cannot say; send a message and see");
        return 0;
    }
    e = resolve(a, mailbox, true, &target, ret);
    if (e == 0)
        answer_set(ret, 250, "2.1.5", "<%s@%s>", target.user, a->conf->hostname);
    rcpt_target_finish(&target);
    return e == -EBADMSG ? e : 0;
}

int agent_data(struct smtp_agent *a, struct smtp_answer *ret, int *ret_fd)
{
    int e;

    if (a->count == 0 || a->file >= 0)
        return -EBADMSG;
    e = spool_open(a->conf, &a->file);
    if (e < 0) {
        LOG_ERROR(LOG_ERR, "spool-failed", e, LOG_FC("queue_id", a->id));
        answer_set(ret, e == -ENOSPC || e == -EDQUOT ? 452 : 451, e == -ENOSPC || e == -EDQUOT ? "4.3.1" : "4.3.0",
                   "No room for a message now, try again later");
        return 0;
    }
    answer_set(ret, 354, "", "Go ahead, end with a lone dot");
    *ret_fd = a->file;
    return 0;
}

/* The same mailbox twice gets the message once. */
static bool earlier_same(const struct smtp_agent *a, size_t i, size_t *ret_at)
{
    for (size_t j = 0; j < i; j++)
        if (strcmp(a->recipients[j].target.user, a->recipients[i].target.user) == 0 &&
            strcmp(a->recipients[j].target.detail, a->recipients[i].target.detail) == 0) {
            *ret_at = j;
            return true;
        }
    return false;
}

/* The account may have gone, or become another one, since RCPT: look again and use what is true now. */
static int refresh(struct smtp_agent *a, struct agent_recipient *r, struct smtp_answer *ret)
{
    struct rcpt_target now = {0};
    int e = resolve(a, str_from(r->address), a->is_utf8, &now, ret);

    if (e == 0) {
        rcpt_target_finish(&r->target);
        r->target = now;
    } else if (e == -EBADMSG) {
        answer_set(ret, 451, "4.3.0", "Internal error");
    }
    return e;
}

static void log_delivery(const struct smtp_agent *a, const struct agent_recipient *r, const struct smtp_answer *answer)
{
    const char *status = answer_is_ok(answer) ? "delivered" : answer_is_temporary(answer) ? "deferred" : "refused";

    LOG_EVENT(answer_is_ok(answer) ? LOG_INFO : LOG_WARNING, "delivery", LOG_FC("queue_id", a->id),
              LOG_FC("from", buf_cstr(&a->sender)), LOG_FC("to", r->address),
              LOG_FC("mailbox", r->target.user ? r->target.user : ""), LOG_FC("status", status),
              LOG_FC("reply", answer->text));
}

/* A delivery that may be running; one of a ring of AGENT_PARALLEL. */
struct running {
    struct transfer transfer;
    bool is_started;
};

static void begin_one(struct smtp_agent *a, size_t i, struct running *run, struct smtp_answer *answer)
{
    struct agent_recipient *r = &a->recipients[i];
    size_t same;

    *run = (struct running){.transfer = {.conf = a->conf,
                                         .target = &r->target,
                                         .sender = buf_cstr(&a->sender),
                                         .address = r->address,
                                         .file = a->file,
                                         .is_root = a->is_root}};
    if (refresh(a, r, answer) < 0 || earlier_same(a, i, &same))
        return;
    transfer_begin(&run->transfer);
    run->is_started = true;
}

static void end_one(struct smtp_agent *a, size_t i, struct running *run, struct smtp_answer *answers)
{
    size_t same;

    if (run->is_started)
        transfer_end(&run->transfer, &answers[i]);
    else if (answers[i].code == 0 && earlier_same(a, i, &same))
        answers[i] = answers[same];
    log_delivery(a, &a->recipients[i], &answers[i]);
}

/* In the order of the recipients, some of them at the same time: each is mostly one fsync. */
static void deliver_all(struct smtp_agent *a, struct smtp_answer *answers)
{
    struct running ring[AGENT_PARALLEL];
    size_t begun = 0;

    for (size_t ended = 0; ended < a->count; ended++) {
        for (; begun < a->count && begun < ended + AGENT_PARALLEL; begun++)
            begin_one(a, begun, &ring[begun % AGENT_PARALLEL], &answers[begun]);
        end_one(a, ended, &ring[ended % AGENT_PARALLEL], answers);
    }
}

/* A hostile session may have written more than it was asked to. */
static bool is_size_fine(const struct smtp_agent *a)
{
    struct stat facts;

    return fstat(a->file, &facts) == 0 && (uint64_t)facts.st_size <= a->conf->message_size + LIMIT_HEADER;
}

int agent_commit(struct smtp_agent *a, struct smtp_answer *ret, size_t count)
{
    if (a->file < 0 || count != a->count)
        return -EBADMSG;
    memset(ret, 0, count * sizeof(*ret));
    if (is_size_fine(a))
        deliver_all(a, ret);
    else
        for (size_t i = 0; i < count; i++)
            answer_set(&ret[i], 552, "5.3.4", "The message is too big");
    agent_reset(a);
    return 0;
}
