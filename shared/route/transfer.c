/*
 * Starts deliver, keeps the locks for it where it cannot, reads its verdict. Runs in the monitor as root, or in
 * `smtp-session -bs` as the invoking user.
 */
#include "shared/route/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/route/helper.h"
#include "shared/route/scratch.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/gate/chain.h"
#include "shared/gate/keeper.h"
#include "shared/gate/priv.h"

#define TRANSFER_SECONDS (TIMEOUT_LOCK + 90) /* a locked mailbox, then a slow disk */
#define COMMAND_SECONDS                                                                                                \
    (TIMEOUT_COMMAND + 30) /* deliver ends the command and all that it started; killed, it cannot                      \
                            */
#define END_TIMEOUT 5000   /* ms to leave after the verdict */

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

/* The verdict: success only by exit status 0, the text only if it agrees with the status. Behind a keeper the status is
 * the keeper's, so there deliver says 250 as well. */
static void judge(int status, bool is_kept, struct str line, struct smtp_answer *ret)
{
    struct smtp_answer said;
    bool is_said = answer_parse(str_trim(line), &said) == 0 && said.code != 354;

    if (is_kept) {
        answer_set(ret, 451, "4.3.0", "The delivery failed, try again later");
        if (is_said)
            *ret = said;
        return;
    }
    answer_from_status(status, ret);
    if (is_said && answer_is_ok(&said) == answer_is_ok(ret))
        *ret = said;
}

/* Of the monitor's fds a keeper needs the log and its control socket. No exec will close the others. */
static void close_others(int control)
{
    int low = control < log_fd() ? control : log_fd();
    int high = control < log_fd() ? log_fd() : control;

    if (low > STDERR_FILENO + 1)
        (void)close_range(STDERR_FILENO + 1, (unsigned)low - 1, 0);
    if (high > low + 1 && low > STDERR_FILENO)
        (void)close_range((unsigned)low + 1, (unsigned)high - 1, 0);
    (void)close_range((unsigned)high + 1, ~0u, 0);
}

/* In a process of its own: starts deliver as the user and becomes its keeper (design, section 4: locks). */
_noreturn_ static void run_kept(const struct transfer *t, struct chain_spec *spec)
{
    struct chain_child session = CHAIN_CHILD_NONE;
    int e;

    spec->has_control = true;
    e = chain_spawn(spec, &session);
    if (e < 0) {
        LOG_ERROR(LOG_ERR, "deliver-failed", e, LOG_FC("mailbox", t->target->user));
        _exit(EX_OSERR);
    }
    close_others(session.control);
    (void)prctl(PR_SET_NAME, "smtp-keeper"); /* for ps */
    _exit(keeper_run(t->conf, spec->user, &session));
}

static int start_kept(const struct transfer *t, struct chain_spec *spec, struct chain_child *ret)
{
    pid_t pid = fork();

    if (pid == 0)
        run_kept(t, spec);
    if (pid < 0)
        return -errno;
    *ret = (struct chain_child){.pid = pid, .control = -1};
    return 0;
}

/* Only a mailbox of the spool has locks to keep, and root can do all of it in his own. */
static bool needs_keeper(const struct transfer *t)
{
    return t->is_root && t->target->uid != 0 && t->target->kind == RCPT_MAILBOX;
}

static int start(const struct transfer *t, int message, int reply, struct chain_child *ret)
{
    struct chain_spec spec = {CHAIN_SPEC("deliver"), .conf = t->conf,
                              .arguments = {"-d", t->target->user, "-f", t->sender, "-a", t->address}};
    struct priv_user user = {0};
    int e = 0;

    if (t->target->kind == RCPT_MAILBOX)
        spec.arguments[6] = t->is_again ? "-LR" : "-L";
    else if (t->target->kind == RCPT_FILE)
        spec.arguments[6] = t->is_again ? "-LRF" : "-LF";
    else
        spec.arguments[6] = "-C";
    if (t->target->kind != RCPT_MAILBOX)
        spec.arguments[7] = t->target->argument;
    spec.fds[0] = message;
    spec.fds[1] = reply;
    if (t->is_root && t->target->uid != 0) {
        e = priv_user_find(str_from(t->target->user), &user);
        if (e == -ENOENT || (e == 0 && user.uid != t->target->uid))
            e = -ESRCH; /* gone, or another one, since RCPT */
        spec.user = &user;
    }
    if (e == 0)
        e = needs_keeper(t) ? start_kept(t, &spec, ret) : chain_spawn(&spec, ret);
    priv_user_finish(&user);
    return e;
}

void transfer_begin(struct transfer *t)
{
    _cleanup_close_ int message = -1, writer = -1;
    int pipe_fds[2];

    t->child = CHAIN_CHILD_NONE;
    t->reply = -1;
    t->deadline =
        clock_monotonic_ms() + (t->target->kind == RCPT_COMMAND ? COMMAND_SECONDS : TRANSFER_SECONDS) * INT64_C(1000);
    t->error = t->target->kind == RCPT_REMOTE ? -EINVAL : scratch_reopen(t->file, &message);
    if (t->error == 0 && pipe2(pipe_fds, O_CLOEXEC) < 0)
        t->error = -errno;
    if (t->error < 0)
        return;
    t->reply = pipe_fds[0];
    writer = pipe_fds[1];
    t->error = start(t, message, writer, &t->child);
}

/* Its line, to the end where that tells something, then with its status. */
static int wait_for(struct transfer *t, struct buf *line)
{
    int status = 0;

    if (t->error == 0)
        t->error = helper_collect(t->reply, t->deadline, needs_keeper(t), line);
    close_fd(&t->reply);
    if (t->child.pid > 0 && (t->error < 0 || !needs_keeper(t)))
        status = chain_end(&t->child, t->error < 0 ? 0 : END_TIMEOUT);
    if (t->error == 0 && status < 0)
        t->error = status;
    return status;
}

/* Killed, perhaps after it had written: neither yes nor no. */
static bool is_unknown(const struct transfer *t, int status, const struct buf *line)
{
    return t->target->kind != RCPT_COMMAND && t->error == 0 && line->len == 0 &&
           (needs_keeper(t) || WIFSIGNALED(status));
}

void transfer_end(struct transfer *t, struct smtp_answer *ret)
{
    _cleanup_buf_ struct buf line = BUF_INIT(ANSWER_TEXT + 32);
    int status = wait_for(t, &line);

    if (is_unknown(t, status, &line)) {
        LOG_EVENT(LOG_WARNING, "deliver-died", LOG_FC("mailbox", t->target->user));
        (void)transfer_reap(&t->child, true); /* a keeper mends what was left, and lets the lock go */
        t->is_again = true;
        transfer_begin(t);
        status = wait_for(t, &line);
    }
    if (t->error == -ESRCH) {
        answer_set(ret, 550, "5.1.1", "There is no such user here");
        return;
    }
    if (t->error < 0) {
        LOG_ERROR(LOG_ERR, "deliver-failed", t->error, LOG_FC("mailbox", t->target->user));
        answer_set(ret, 451, "4.3.0", "The delivery failed, try again later");
        return;
    }
    judge(status, needs_keeper(t), buf_str(&line), ret);
}

bool transfer_reap(struct chain_child *child, bool wait)
{
    if (child->pid > 0 && !wait && waitpid(child->pid, NULL, WNOHANG) == 0)
        return false;
    if (child->pid > 0 && wait)
        (void)chain_end(child, END_TIMEOUT);
    *child = CHAIN_CHILD_NONE;
    return true;
}
