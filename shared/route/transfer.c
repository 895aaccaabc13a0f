/*
 * Deliveries and their verdicts. Runs in the monitor as root, in relay-courier, or in `smtp-session -bs` as the
 * invoking user.
 */
#include "shared/route/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/gate/priv.h"
#include "shared/route/helper.h"
#include "shared/route/scratch.h"

#define TRANSFER_SECONDS (TIMEOUT_LOCK + 90)    /* a locked mailbox, then a slow disk */
#define COMMAND_SECONDS  (TIMEOUT_COMMAND + 30) /* deliver ends the command and all of it; killed, it cannot */
#define END_TIMEOUT      5000                   /* ms to leave after the verdict */

/* ---- a command of the user, run by a deliver of its own ---- */

static int start_command(const struct transfer *t, int message, int reply, struct chain_child *ret)
{
    const struct rcpt_target *place = t->target;
    struct chain_spec spec = {
        CHAIN_SPEC("deliver"), .conf = t->postmen->conf,
        .arguments = {"-d", place->user, "-f", t->letter.sender, "-a", t->letter.address, "-C", place->argument}};
    _cleanup_priv_user_ struct priv_user user = {0};
    int e = 0;

    spec.fds[0] = message;
    spec.fds[1] = reply;
    if (t->postmen->is_root && place->uid != 0) {
        e = priv_user_find(str_from(place->user), &user);
        if (e == -ENOENT || (e == 0 && user.uid != place->uid))
            e = -ESRCH; /* gone, or another one, since RCPT */
        spec.user = &user;
    }
    return e < 0 ? e : chain_spawn(&spec, ret);
}

static int begin_command(struct transfer *t)
{
    _cleanup_close_ int message = -1, writer = -1;
    int ends[2];
    int e = scratch_reopen(t->letter.file, &message);

    if (e < 0)
        return e;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    t->reply = ends[0];
    writer = ends[1];
    return start_command(t, message, writer, &t->child);
}

/* When deliver said nothing that we understand, its exit status (sysexits) decides. */
static void answer_from_status(int status, struct smtp_answer *ret)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

    if (code == EX_OK)
        answer_set(ret, 250, "2.1.5", "Delivered");
    else if (code == EX_NOUSER)
        answer_set(ret, 550, "5.1.1", "There is no such user here");
    else if (code == EX_NOPERM)
        answer_set(ret, 550, "5.7.1", "The mailbox may not be written");
    else if (code == EX_DATAERR)
        answer_set(ret, 554, "5.6.0", "The message was refused");
    else
        answer_set(ret, 451, "4.3.0", "The delivery failed, try again later");
}

/* Success only by exit status 0, the text only if it agrees with the status. */
static int end_command(struct transfer *t, struct smtp_answer *ret)
{
    _cleanup_buf_ struct buf line = BUF_INIT(ANSWER_TEXT + 32);
    struct smtp_answer said;
    int e = helper_collect(t->reply, t->deadline, false, &line);
    int status = chain_end(&t->child, e < 0 ? 0 : END_TIMEOUT);

    if (e < 0 || status < 0)
        return e < 0 ? e : status;
    answer_from_status(status, ret);
    if (answer_parse(str_trim(buf_str(&line)), &said) == 0 && said.code / 100 != 3 &&
        answer_is_ok(&said) == answer_is_ok(ret))
        *ret = said;
    return 0;
}

/* ---- a mailbox, or a file ---- */

static int begin_letter(struct transfer *t)
{
    return postman_send(t->postmen, t->target, &t->letter, &t->postman);
}

/* One that died may have written before: neither yes nor no, until another one has looked. */
static int end_letter(struct transfer *t, struct smtp_answer *ret)
{
    _cleanup_buf_ struct buf line = BUF_INIT(ANSWER_TEXT + 32);
    struct smtp_answer said;
    int e = postman_verdict(t->postman, t->deadline, &line);

    t->is_unsure = e < 0;
    if (e == -ENODATA) {
        LOG_EVENT(LOG_WARNING, "deliver-died", LOG_FC("mailbox", t->target->user));
        t->letter.is_again = true;
        e = begin_letter(t);
        if (e == 0)
            e = postman_verdict(t->postman, t->deadline, &line);
    }
    if (e < 0)
        return e;
    answer_set(ret, 451, "4.3.0", "The delivery failed, try again later");
    if (answer_parse(buf_str(&line), &said) == 0 && said.code / 100 != 3)
        *ret = said;
    t->is_unsure = t->is_unsure && answer_is_temporary(ret); /* he may not have come to looking */
    return 0;
}

/* ---- both ---- */

void transfer_begin(struct transfer *t)
{
    bool is_command = t->target->kind == RCPT_COMMAND;

    t->postman = NULL;
    t->child = CHAIN_CHILD_NONE;
    t->reply = -1;
    t->deadline = clock_monotonic_ms() + (is_command ? COMMAND_SECONDS : TRANSFER_SECONDS) * INT64_C(1000);
    t->error = t->target->kind == RCPT_REMOTE ? -EINVAL : is_command ? begin_command(t) : begin_letter(t);
}

void transfer_end(struct transfer *t, struct smtp_answer *ret)
{
    t->is_unsure = false;
    if (t->error == 0)
        t->error = t->target->kind == RCPT_COMMAND ? end_command(t, ret) : end_letter(t, ret);
    close_fd(&t->reply);
    if (t->error == 0)
        return;
    /* Also for a user who was there a moment ago: whether he is gone, or the data base is, shows at the next RCPT. */
    LOG_ERROR(LOG_ERR, "deliver-failed", t->error, LOG_FC("mailbox", t->target->user));
    answer_set(ret, 451, "4.3.0", "The delivery failed, try again later");
}
