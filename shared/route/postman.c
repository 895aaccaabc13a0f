/*
 * Starting, asking and sending home the delivers of one connection. Runs in the monitor as root, in relay-courier, or
 * in `smtp-session -bs` as the invoking user.
 */
#include "shared/route/postman.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/gate/keeper.h"
#include "shared/gate/priv.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"
#include "shared/route/answer.h"
#include "shared/route/scratch.h"

#define END_TIMEOUT 5000 /* ms to leave after the last word */
#define MARGIN      2000 /* ms before his time is up: he may be on his way out already */
#define SENDS       2    /* a man who was killed while he waited, then a new one */

/* ---- the men ---- */

void postmen_init(struct postmen *p, struct conf *conf, bool is_root)
{
    *p = (struct postmen){.conf = conf, .is_root = is_root};
    for (size_t i = 0; i < LIMIT_POSTMEN; i++) {
        p->men[i].child = CHAIN_CHILD_NONE;
        p->men[i].socket = -1;
    }
}

/* He sees the end of his socket; who waits for him does not wait long. */
static void send_home(struct postman *m)
{
    close_fd(&m->socket);
    m->is_busy = false;
    rcpt_target_finish(&m->place);
}

/* Nobody is killed: a keeper that is cannot let the lock of his deliver go, who writes on without him. Who hangs on a
 * disk leaves when that answers. */
static int see_off(struct postman *m, int64_t deadline)
{
    int64_t left = deadline - clock_monotonic_ms();

    send_home(m);
    return chain_wait(&m->child, left < 0 ? 0 : (int)left);
}

/* Is there nobody (any more)? */
static bool is_free(struct postman *m)
{
    if (m->socket >= 0)
        return false;
    if (m->child.pid > 0 && waitpid(m->child.pid, NULL, WNOHANG) == m->child.pid)
        m->child = CHAIN_CHILD_NONE;
    return m->child.pid <= 0;
}

void postmen_finish(struct postmen *p)
{
    int64_t deadline = clock_monotonic_ms() + END_TIMEOUT;

    for (size_t i = 0; i < LIMIT_POSTMEN; i++)
        send_home(&p->men[i]);
    for (size_t i = 0; i < LIMIT_POSTMEN; i++)
        (void)see_off(&p->men[i], deadline);
}

/* The argument of a mailbox is only a detail of the address. */
static bool is_his_place(const struct postman *m, const struct rcpt_target *place)
{
    return m->place.kind == place->kind && m->place.uid == place->uid && m->place.gid == place->gid &&
           strcmp(m->place.user, place->user) == 0 && strcmp(m->place.home, place->home) == 0 &&
           (place->kind == RCPT_MAILBOX || strcmp(m->place.argument, place->argument) == 0);
}

static struct postman *find_waiting(struct postmen *p, const struct rcpt_target *place)
{
    int64_t oldest = clock_monotonic_ms() - (TIMEOUT_POSTMAN * 1000 - MARGIN);

    for (size_t i = 0; i < LIMIT_POSTMEN; i++) {
        struct postman *m = &p->men[i];

        if (m->socket < 0 || m->is_busy || !is_his_place(m, place))
            continue;
        if (m->since > oldest)
            return m;
        send_home(m);
    }
    return NULL;
}

/* Room for one more: of those who wait, the one who has waited longest goes. One who is leaving, and may hang on a
 * disk, is waited for only if there is nobody else. NULL: all are busy. Whoever has gone is reaped: until then others
 * take the lock that he left for one of a living process. */
static struct postman *make_room(struct postmen *p)
{
    struct postman *none = NULL, *first = NULL;

    for (size_t i = 0; i < LIMIT_POSTMEN; i++) {
        struct postman *m = &p->men[i];

        if (is_free(m))
            none = m;
        else if (!m->is_busy && (!first || (m->socket >= 0 && first->socket < 0) ||
                                 ((m->socket >= 0) == (first->socket >= 0) && m->since < first->since)))
            first = m;
    }
    if (none)
        return none;
    return first && see_off(first, clock_monotonic_ms() + END_TIMEOUT) == 0 ? first : NULL;
}

/* ---- starting one ---- */

/* Of the monitor's fds a keeper needs the log, if that is one, and its control socket. No exec will close the others,
 * and who waits for their end would wait for us. */
static void close_others(int control)
{
    const int kept[] = {control < log_fd() ? control : log_fd(), control < log_fd() ? log_fd() : control};
    int from = STDERR_FILENO + 1;

    for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
        if (kept[i] > from)
            (void)close_range((unsigned)from, (unsigned)kept[i] - 1, 0);
        if (kept[i] >= from)
            from = kept[i] + 1;
    }
    (void)close_range((unsigned)from, ~0u, 0);
}

/* In a process of its own: starts deliver as the user and becomes its keeper (design, section 4: locks). */
_noreturn_ static void run_kept(struct chain_spec *spec)
{
    struct chain_child session = CHAIN_CHILD_NONE;
    sigset_t stop;
    int e;

    /* He stays until his deliver has gone, and lets go of the lock. */
    (void)sigemptyset(&stop);
    (void)sigaddset(&stop, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &stop, NULL);
    spec->has_control = true;
    e = chain_spawn(spec, &session);
    if (e < 0) {
        LOG_ERROR(LOG_ERR, "deliver-failed", e, LOG_FC("mailbox", spec->user->name));
        _exit(EX_OSERR);
    }
    close_others(session.control);
    (void)prctl(PR_SET_NAME, "smtp-keeper"); /* for ps */
    _exit(keeper_run(spec->conf, spec->user, &session));
}

static int start_kept(struct chain_spec *spec, struct chain_child *ret)
{
    pid_t pid = fork();

    if (pid == 0)
        run_kept(spec);
    if (pid < 0)
        return -errno;
    *ret = (struct chain_child){.pid = pid, .control = -1};
    return 0;
}

/* As the user; only a mailbox of the spool has locks to keep, and root can do all of it in his own. */
static int start_as(const struct postmen *p, const struct rcpt_target *place, int socket, struct chain_child *ret)
{
    struct chain_spec spec = {CHAIN_SPEC("deliver"), .conf = p->conf, .arguments = {"-d", place->user, "-LS"}};
    _cleanup_priv_user_ struct priv_user user = {0};
    int e;

    if (place->kind == RCPT_FILE) {
        spec.arguments[3] = "-F";
        spec.arguments[4] = place->argument;
    }
    spec.fds[0] = socket;
    if (!p->is_root || place->uid == 0)
        return chain_spawn(&spec, ret);
    e = priv_user_find(str_from(place->user), &user);
    if (e == -ENOENT || (e == 0 && user.uid != place->uid))
        e = -ESRCH; /* gone, or another one, since RCPT */
    if (e < 0)
        return e;
    spec.user = &user;
    return place->kind == RCPT_MAILBOX ? start_kept(&spec, ret) : chain_spawn(&spec, ret);
}

static int copy_place(const struct rcpt_target *from, struct rcpt_target *ret)
{
    *ret = (struct rcpt_target){.kind = from->kind,
                                .user = strdup(from->user),
                                .home = strdup(from->home),
                                .argument = strdup(from->argument),
                                .uid = from->uid,
                                .gid = from->gid};
    if (ret->user && ret->home && ret->argument)
        return 0;
    rcpt_target_finish(ret);
    return -ENOMEM;
}

static int start(struct postmen *p, const struct rcpt_target *place, struct postman **ret)
{
    struct postman *m = make_room(p);
    int ends[2];
    int e = m ? copy_place(place, &m->place) : -EBUSY;

    if (e < 0)
        return e;
    e = frame_pair(ends);
    if (e == 0) {
        m->socket = ends[0];
        e = start_as(p, place, ends[1], &m->child);
        (void)close(ends[1]);
    }
    if (e < 0) {
        send_home(m);
        return e;
    }
    *ret = m;
    return 0;
}

/* ---- letters ---- */

static int hand_over(const struct postman *m, const struct postman_letter *letter)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    _cleanup_close_ int message = -1;
    int e = letter->text.len > 0 ? 0 : scratch_reopen(letter->file, &message);

    frame_begin(&f, FRAME_DELIVER_LETTER);
    if (e == 0)
        e = frame_put_str(&f, str_from(letter->sender));
    if (e == 0)
        e = frame_put_str(&f, str_from(letter->address));
    if (e == 0)
        e = frame_put_u32(&f, letter->is_again);
    if (e == 0)
        e = frame_put_str(&f, letter->text);
    return e < 0 ? e : frame_send(m->socket, &f, message);
}

int postman_send(struct postmen *p, const struct rcpt_target *place, const struct postman_letter *letter,
                 struct postman **ret)
{
    int e = -EPIPE;

    for (int i = 0; i < SENDS && e == -EPIPE; i++) {
        struct postman *m = i + 1 < SENDS ? find_waiting(p, place) : NULL; /* at last a new one */

        e = m ? 0 : start(p, place, &m);
        if (e < 0)
            return e;
        e = hand_over(m, letter);
        if (e < 0) {
            send_home(m);
            continue;
        }
        m->is_busy = true;
        *ret = m;
    }
    return e;
}

static int receive(const struct postman *m, int64_t deadline, struct buf *ret_line)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int64_t left = deadline - clock_monotonic_ms();
    struct frame_reader in;
    struct str line;
    int e = frame_recv(m->socket, &f, left < 0 ? 0 : (int)left);

    if (e < 0)
        return e;
    in = frame_read(&f);
    if (f.type != FRAME_DELIVER_VERDICT || f.fd >= 0 || frame_get_str(&in, ret_line->max, &line) < 0 ||
        frame_end(&in) < 0)
        return -EBADMSG;
    return buf_add_str(ret_line, line);
}

int postman_verdict(struct postman *m, int64_t deadline, struct buf *ret_line)
{
    struct smtp_answer said;
    int e = receive(m, deadline, ret_line);

    m->since = clock_monotonic_ms();
    m->is_busy = false;
    if (e == -ENODATA)
        (void)see_off(m, deadline); /* a keeper mends what was left, and lets the lock go */
    else if (e < 0)
        send_home(m);
    else if (answer_parse(buf_str(ret_line), &said) < 0 || said.code / 100 != 2)
        send_home(m);
    return e;
}
