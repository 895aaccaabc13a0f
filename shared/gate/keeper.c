/*
 * The keeper's life: how it comes to be, whom it waits for, how it ends. Runs as root with CAP_SETUID, CAP_SETGID and
 * CAP_KILL and nothing else (or as the user who tries Pennypost out).
 */
#include "shared/gate/keeper_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"

#define SESSION_FD    3
#define TLS_FD        4
#define AUTH_FD       5
#define USER_FD       6
#define SPARE_FD      16
#define ARGUMENTS_MAX 64
#define FLUSH_TIMEOUT 30000 /* ms that T has to bring the last bytes to a slow client */
#define LOOK_MS       50    /* between two looks at a recovery */

/* ---- becoming it ---- */

static int pass_fd(int from, int to)
{
    if (from < 0)
        from = open("/dev/null", O_RDWR); /* it may be `to` already, and has to outlive the exec then */
    return from < 0 || dup2(from, to) < 0 ? -errno : 0;
}

/* Who it is for, in a socket that it will read after the exec. */
static int pack_user(const struct priv_user *u, int *ret_fd)
{
    int pair[2];
    int r = frame_pair(pair);

    if (r < 0)
        return r;
    r = frame_say(pair[0], FRAME_KEEPER_USER, -1, FRAME_U32(u->uid), FRAME_U32(u->gid),
                  FRAME_STR(priv_user_groups(u)), FRAME_STR(str_from(u->home)));
    (void)close(pair[0]);
    *ret_fd = pair[1];
    return r;
}

/* Moves the sockets away from the places that they are to fill. */
static int pass_fds(const struct keeper_family *family, int user)
{
    const int sources[] = {family->session.control, family->tls.control, family->auth.control, user};
    int spare[ARRAY_SIZE(sources)];
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
        spare[i] = sources[i] < 0 ? -1 : fcntl(sources[i], F_DUPFD_CLOEXEC, SPARE_FD);
        if (sources[i] >= 0 && spare[i] < 0)
            return -errno;
    }
    for (size_t i = 0; i < ARRAY_SIZE(sources) && r == 0; i++)
        r = pass_fd(spare[i], SESSION_FD + (int)i);
    return r < 0 ? r : chain_close_from(USER_FD + 1);
}

int keeper_exec(const char *program, const struct conf *conf, const struct priv_user *user,
                const struct keeper_family *family)
{
    char path[PATH_MAX];
    char pids[3][16];
    int fd = -1;
    _cleanup_free_ char *self = strdup(program);
    _cleanup_free_ char *name = strdup(user->name);
    char *argv[ARGUMENTS_MAX + 1] = {self, (char[]){"--keeper"}, name, pids[0], pids[1], pids[2]};
    int argc = 6;
    int r = chain_locate(program, path, sizeof(path));

    if (r == 0 && (!name || !self))
        r = -ENOMEM;
    if (r < 0)
        return r;
    (void)snprintf(pids[0], sizeof(pids[0]), "%d", (int)family->session.pid);
    (void)snprintf(pids[1], sizeof(pids[1]), "%d", (int)family->tls.pid);
    (void)snprintf(pids[2], sizeof(pids[2]), "%d", (int)family->auth.pid);
    r = conf_pass_on(conf, argv, &argc, ARGUMENTS_MAX);
    if (r == 0)
        r = pack_user(user, &fd);
    if (r == 0)
        r = pass_fds(family, fd);
    if (r < 0)
        return r;
    (void)execv(path, argv);
    return -errno;
}

/* ---- set-up ---- */

static int drop(const struct keeper *k)
{
    int r = 0;

    if (priv_is_root() && setgroups((size_t)k->user.group_count, k->user.groups) < 0)
        return -errno;
    /* CAP_KILL: without it the kernel does not even deliver the signals that our children asked for when we die. */
    r = priv_keep_capabilities(priv_is_root() ? 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_KILL : 0);
    return r < 0 ? r : priv_no_new_privs();
}

static int set_up(struct keeper *k)
{
    int r = 0;
    int dropped = 0;

    if (k->user.uid == 0 || (!priv_is_root() && k->user.uid != geteuid()))
        r = -EPERM;
    if (r == 0 && priv_is_root() && setgroups((size_t)k->user.group_count, k->user.groups) < 0)
        r = -errno; /* a folder in the home is looked up with the user's rights, groups included */
    if (r == 0)
        r = keeper_open_folder(k);
    k->lock.is_kept = k->only_appends; /* one message after another */
    if (r == 0 && priv_is_root() && !k->only_appends)
        k->markers = open(KEEPER_LOCKS_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    (void)umask(0);
    dropped = drop(k); /* also where there is nothing to serve: the wait for the others is long */
    return r < 0 ? r : dropped;
}

/* ---- the life of it ---- */

static void refresh_lock(struct keeper *k)
{
    if (k->lock.fd < 0 || clock_monotonic_ms() - k->touched < DOTLOCK_REFRESH * INT64_C(1000))
        return;
    if (dotlock_touch(&k->lock) < 0)
        LOG_EVENT(LOG_WARNING, "dotlock lost", LOG_FC("user", k->user.name));
    k->touched = clock_monotonic_ms();
}

/* Whoever stops us stops the session: it takes leave of its client, or dies of it and leaves us what to tidy up. */
static void pass_stop_on(struct keeper *k)
{
    struct signalfd_siginfo info;

    if (read(k->stop, &info, sizeof(info)) != sizeof(info))
        return;
    k->is_stopped = true;
    (void)kill(k->session.pid, SIGTERM);
}

/* Serves the session to its end. 0, or a negative errno when it broke the rules. */
static int serve(struct keeper *k)
{
    int r = 0;

    while (r == 0) {
        struct pollfd p[] = {{.fd = k->session.control, .events = POLLIN}, {.fd = k->stop, .events = POLLIN}};
        int n = poll(p, 2, k->lock.fd >= 0 ? DOTLOCK_REFRESH * 1000 : -1);

        if (n < 0 && errno != EINTR)
            return -errno;
        refresh_lock(k);
        if (n > 0 && p[1].revents)
            pass_stop_on(k);
        if (n > 0 && p[0].revents)
            r = keeper_serve_frame(k);
        if (r == -ETIMEDOUT)
            r = 0;
    }
    return r == -ENODATA || r == -EPIPE ? 0 : r;
}

/* The session died in the middle of a change: its user's recovery runs while the dotlock keeps everybody else out. */
static int recover(struct keeper *k)
{
    struct chain_spec spec = {CHAIN_SPEC("deliver"), .arguments = {"--recover"}, .conf = k->conf, .user = &k->user,
                              .no_new_privs = true};
    struct chain_child child = CHAIN_CHILD_NONE;
    int status = 0;
    int r = 0;

    LOG_EVENT(LOG_WARNING, "session died holding the lock", LOG_FC("user", k->user.name));
    keeper_be_self();
    r = chain_spawn(&spec, &child);
    keeper_be_user(k);
    while (r == 0 && waitpid(child.pid, &status, WNOHANG) == 0) {
        (void)poll(NULL, 0, LOOK_MS);
        refresh_lock(k);
    }
    if (r == 0 && status != 0)
        r = -EIO;
    if (r < 0)
        LOG_ERROR(LOG_ERR, "recovery failed", r, LOG_FC("user", k->user.name));
    return r;
}

int keeper_part_failed(const char *part, int status, const char *user)
{
    char text[24];

    chain_status_text(status, text);
    LOG_EVENT(LOG_ERR, "part failed", LOG_FC("part", part), LOG_FC("status", text), LOG_FC("user", user));
    return -ECHILD;
}

/* The session that ran, and was not told to stop. What deliver leaves with is its verdict, and read by others. */
static bool has_session_failed(const struct keeper *k, int status)
{
    if (k->is_stopped && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM)
        return false;
    return k->only_appends ? WIFSIGNALED(status) : chain_has_failed(status);
}

/* Waits for all of them, in the order in which they depend on each other. */
static int end_family(struct keeper *k)
{
    int status = 0, status_of_auth;
    int r = 0;

    while (waitpid(k->session.pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (k->lock.fd >= 0) {
        r = recover(k);
        (void)dotlock_release(&k->lock);
    }
    if (r == 0) /* else the next boot tries again */
        keeper_clear_marker(k);
    keeper_be_self(); /* what A has started is to be found also in a /proc that hides from users what is not theirs */
    status_of_auth = chain_end(&k->auth, TIMEOUT_PAM_CLOSE * 1000);
    keeper_be_user(k);
    (void)chain_end(&k->tls, FLUSH_TIMEOUT);
    r = 0;
    if (status_of_auth > 0)
        r = keeper_part_failed("auth", status_of_auth, k->user.name);
    return has_session_failed(k, status) ? keeper_part_failed("session", status, k->user.name) : r;
}

static int parse_child(const char *text, int fd, struct chain_child *ret)
{
    uint32_t pid = 0;

    if (str_to_u32(str_from(text), &pid) < 0 || pid > INT_MAX || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -EINVAL;
    *ret = (struct chain_child){.pid = (pid_t)pid, .control = fd};
    return 0;
}

static sigset_t stop_signals(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    return set;
}

/* Stays over exec; chain_spawn() takes it off in children. */
void keeper_hold_stop(void)
{
    const sigset_t set = stop_signals();

    (void)sigprocmask(SIG_BLOCK, &set, NULL);
}

/* SIGTERM becomes readable instead of deadly. -1: it is deadly, also for the session. */
static int open_stop(void)
{
    const sigset_t set = stop_signals();
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);

    (void)sigprocmask(fd >= 0 ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
    return fd;
}

/* The whole life, from set-up to the end of the family. */
static int live(struct keeper *k)
{
    int r = 0;

    k->lock.fd = k->lock.spare_fd = -1;
    k->stop = k->only_appends ? -1 : open_stop();
    r = set_up(k);
    if (r == 0) {
        keeper_be_user(k);
        r = serve(k);
        if (r < 0) /* not one of ours any more, whoever it is: it loses the connection too */
            (void)kill(k->session.pid, SIGKILL);
    }
    if (r < 0)
        LOG_ERROR(LOG_ERR, "keeper failed", r, LOG_FC("user", k->user.name));
    close_fd(&k->session.control);
    if (end_family(k) < 0)
        r = -ECHILD;
    if (k->folder >= 0)
        dotlock_finish(&k->lock);
    close_fd(&k->folder);
    close_fd(&k->markers);
    close_fd(&k->stop);
    priv_user_finish(&k->user);
    return r < 0 ? EX_SOFTWARE : 0;
}

static int unpack_user(const char *name, struct priv_user *ret)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct str groups, home;
    uint32_t uid, gid;
    int r = frame_recv(USER_FD, &f, 0);

    (void)close(USER_FD);
    if (r < 0)
        return r;
    if (f.type != FRAME_KEEPER_USER ||
        frame_take(&f, FRAME_TO_U32(&uid, UINT32_MAX), FRAME_TO_U32(&gid, UINT32_MAX),
                   FRAME_TO_STR(&groups, sizeof(ret->groups)), FRAME_TO_STR(&home, LIMIT_PATHNAME)) < 0)
        return -EBADMSG;
    return priv_user_make(ret, str_from(name), home, uid, gid, groups);
}

int keeper_main(const struct conf *conf, int argc, char **argv)
{
    struct keeper k = {.conf = conf, .folder = -1, .markers = -1};

    if (argc != 6 || parse_child(argv[3], SESSION_FD, &k.session) < 0 || parse_child(argv[4], TLS_FD, &k.tls) < 0 ||
        parse_child(argv[5], AUTH_FD, &k.auth) < 0 || k.session.pid == 0 || unpack_user(argv[2], &k.user) < 0)
        return EX_USAGE;
    k.auth.is_reaper = true; /* chain_spawn() made it one */
    return live(&k);
}

int keeper_run(const struct conf *conf, const struct priv_user *user, const struct chain_child *session)
{
    struct keeper k = {.conf = conf,
                       .folder = -1,
                       .markers = -1,
                       .user = *user,
                       .only_appends = true,
                       .session = *session,
                       .tls = CHAIN_CHILD_NONE,
                       .auth = CHAIN_CHILD_NONE};

    return live(&k);
}
