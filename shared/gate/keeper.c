/*
 * The keeper. Runs as root with CAP_SETUID, CAP_SETGID and CAP_KILL and nothing else (or as the user who tries
 * Pennypost out); touches the spool file's dotlock, creates the spool file, and its marker; reads three kinds of
 * frames.
 */
#include "shared/gate/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/gate/dotlock.h"
#include "shared/gate/priv.h"
#include "shared/gate/session.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"

#define SESSION_FD    3
#define TLS_FD        4
#define AUTH_FD       5
#define SPARE_FD      16
#define ARGUMENTS_MAX 64
#define FLUSH_TIMEOUT 30000 /* ms that T has to bring the last bytes to a slow client */
#define CLOSE_TIMEOUT 10000 /* ms that A has to close its PAM session */
#define RETRY_MS      50    /* shortest wait between two tries for the lock; random up to four times as long */

struct keeper {
    const struct conf *conf;
    struct priv_user user;
    struct chain_child session, tls, auth;
    int folder;           /* of the spool file */
    char name[256];       /* of the spool file in it */
    gid_t group;          /* with which files are made */
    bool is_shared_group; /* it is the spool's group (mail), not the user's own */
    struct dotlock lock;
    int markers;                  /* folder of the markers or -1 */
    char marker[LIMIT_USER + 16]; /* "" while there is none */
    int64_t touched;              /* when the lock was last refreshed */
    bool only_appends;            /* deliver: a torn message tells its own length and needs no marker */
};

/* ---- becoming it ---- */

static int pass_fd(int from, int to)
{
    if (from < 0)
        from = open("/dev/null", O_RDWR); /* it may be `to` already, and has to outlive the exec then */
    return from < 0 || dup2(from, to) < 0 ? -errno : 0;
}

/* Moves the three sockets away from the places that they are to fill. */
static int pass_fds(const struct keeper_family *family)
{
    const int sources[] = {family->session.control, family->tls.control, family->auth.control};
    int spare[ARRAY_SIZE(sources)];
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
        spare[i] = sources[i] < 0 ? -1 : fcntl(sources[i], F_DUPFD_CLOEXEC, SPARE_FD);
        if (sources[i] >= 0 && spare[i] < 0)
            return -errno;
    }
    for (size_t i = 0; i < ARRAY_SIZE(sources) && r == 0; i++)
        r = pass_fd(spare[i], SESSION_FD + (int)i);
    if (r == 0 && close_range(AUTH_FD + 1, ~0u, 0) < 0)
        r = -errno;
    return r;
}

int keeper_exec(const char *program, const struct conf *conf, const char *user, const struct keeper_family *family)
{
    char path[PATH_MAX];
    char pids[3][16];
    _cleanup_free_ char *self = strdup(program);
    _cleanup_free_ char *name = strdup(user);
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
        r = pass_fds(family);
    if (r < 0)
        return r;
    (void)execv(path, argv);
    return -errno;
}

/* ---- set-up ---- */

/* Files are touched as the user, with the group of the spool; markers as ourselves. */
static void be_user(const struct keeper *k)
{
    if (priv_is_root()) {
        (void)setfsgid(k->group);
        (void)setfsuid(k->user.uid);
    }
}

static void be_self(void)
{
    if (priv_is_root()) {
        (void)setfsuid(0);
        (void)setfsgid(getegid());
    }
}

static int open_folder(struct keeper *k)
{
    _cleanup_free_ char *inbox = NULL;
    char *slash = NULL;
    struct stat st;
    int r = session_inbox(k->conf, str_from(k->user.name), str_from(k->user.home), &inbox);

    if (r < 0)
        return r;
    slash = strrchr(inbox, '/');
    if (strlen(slash ? slash + 1 : inbox) >= sizeof(k->name))
        return -ENAMETOOLONG;
    (void)snprintf(k->name, sizeof(k->name), "%s", slash ? slash + 1 : inbox);
    if (slash)
        slash[slash == inbox ? 1 : 0] = '\0';
    k->folder = open(slash ? inbox : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (k->folder < 0 || fstat(k->folder, &st) < 0)
        return -errno;
    k->is_shared_group = st.st_gid != 0 && (st.st_mode & S_IWGRP) != 0;
    k->group = k->is_shared_group ? st.st_gid : k->user.gid;
    return dotlock_init(&k->lock, k->folder, k->name);
}

static int drop(const struct keeper *k)
{
    int r = 0;

    if (priv_is_root() && setgroups((size_t)k->user.group_count, k->user.groups) < 0)
        return -errno;
    /* CAP_KILL: without it the kernel does not even deliver the signals that our children asked for when we die. */
    r = priv_keep_capabilities(priv_is_root() ? 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_KILL : 0);
    return r < 0 ? r : priv_no_new_privs();
}

static int set_up(struct keeper *k, const char *name)
{
    int r = k->user.name ? 0 : priv_user_find(str_from(name), &k->user);

    if (r < 0)
        return r;
    if (k->user.uid == 0 || (!priv_is_root() && k->user.uid != geteuid()))
        return -EPERM;
    r = open_folder(k);
    if (r < 0)
        return r;
    if (priv_is_root() && !k->only_appends)
        k->markers = open(KEEPER_LOCKS_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    (void)umask(0);
    return drop(k);
}

/* ---- markers ---- */

static void set_marker(struct keeper *k)
{
    _cleanup_close_ int fd = -1;

    if (k->markers < 0 || k->marker[0] != '\0')
        return;
    (void)snprintf(k->marker, sizeof(k->marker), "%s.%d", k->user.name, (int)getpid());
    be_self();
    fd = openat(k->markers, k->marker, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    /* Without the marker a power cut is recovered from at the next opening of the box instead of at boot. */
    if (fd < 0 || fsync(k->markers) < 0)
        LOG_ERROR(LOG_WARNING, "no recovery marker", errno, LOG_FC("user", k->user.name));
    be_user(k);
}

static void clear_marker(struct keeper *k)
{
    if (k->marker[0] == '\0')
        return;
    be_self();
    (void)unlinkat(k->markers, k->marker, 0);
    be_user(k);
    k->marker[0] = '\0';
}

/* ---- requests ---- */

static int answer(const struct keeper *k, int error)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = 0;

    frame_begin(&f, error == 0 ? FRAME_KEEPER_OK : FRAME_KEEPER_ERROR);
    if (error != 0)
        r = frame_put_u32(&f, (uint32_t)-error);
    return r < 0 ? r : frame_send(k->session.control, &f, -1);
}

/* Waits a random moment. False when the session is gone or speaks out of turn. */
static bool wait_a_moment(const struct keeper *k)
{
    struct pollfd p = {.fd = k->session.control, .events = POLLIN};
    unsigned char random = 0;

    (void)secret_random(&random, 1);
    return poll(&p, 1, RETRY_MS + random) == 0;
}

static int take_lock(struct keeper *k, uint32_t seconds)
{
    int64_t end = clock_monotonic_ms() + seconds * INT64_C(1000);
    int r = 0;

    if (k->lock.fd >= 0)
        return -EALREADY;
    set_marker(k);
    do
        r = dotlock_try(&k->lock);
    while (r == -EAGAIN && clock_monotonic_ms() < end && wait_a_moment(k));
    k->touched = clock_monotonic_ms();
    return r;
}

static int on_lock(struct keeper *k, struct frame_reader *in)
{
    uint32_t seconds = 0;

    if (frame_get_u32(in, &seconds) < 0 || frame_end(in) < 0 || seconds > 2 * TIMEOUT_LOCK)
        return -EBADMSG;
    return answer(k, take_lock(k, seconds));
}

static int on_unlock(struct keeper *k, struct frame_reader *in)
{
    if (frame_end(in) < 0)
        return -EBADMSG;
    return answer(k, dotlock_release(&k->lock));
}

/* The file appears whole and durable, or not at all. */
static int create_box(struct keeper *k)
{
    _cleanup_close_ int fd = openat(k->folder, k->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                                    k->is_shared_group ? 0660 : 0600);

    if (fd < 0)
        return errno == EEXIST ? 0 : -errno;
    if (fsync(fd) < 0 || fsync(k->folder) < 0)
        return -errno;
    return 0;
}

static int on_create(struct keeper *k, struct frame_reader *in)
{
    if (frame_end(in) < 0)
        return -EBADMSG;
    return answer(k, create_box(k));
}

static int serve_frame(struct keeper *k)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader in;
    int r = frame_recv(k->session.control, &f, 0);

    if (r < 0)
        return r;
    if (f.fd >= 0)
        return -EBADMSG;
    in = frame_read(&f);
    switch (f.type) {
    case FRAME_KEEPER_LOCK:
        return on_lock(k, &in);
    case FRAME_KEEPER_UNLOCK:
        return on_unlock(k, &in);
    case FRAME_KEEPER_CREATE:
        return on_create(k, &in);
    default:
        return -EPROTO;
    }
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

/* Serves the session to its end. 0, or a negative errno when it broke the rules. */
static int serve(struct keeper *k)
{
    int r = 0;

    while (r == 0) {
        struct pollfd p = {.fd = k->session.control, .events = POLLIN};
        int n = poll(&p, 1, k->lock.fd >= 0 ? DOTLOCK_REFRESH * 1000 : -1);

        if (n < 0 && errno != EINTR)
            return -errno;
        refresh_lock(k);
        if (n > 0)
            r = serve_frame(k);
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
    be_self();
    r = chain_spawn(&spec, &child);
    be_user(k);
    while (r == 0 && waitpid(child.pid, &status, WNOHANG) == 0) {
        (void)poll(NULL, 0, RETRY_MS);
        refresh_lock(k);
    }
    if (r == 0 && status != 0)
        r = -EIO;
    if (r < 0)
        LOG_ERROR(LOG_ERR, "recovery failed", r, LOG_FC("user", k->user.name));
    return r;
}

/* Waits for all of them, in the order in which they depend on each other. */
static int end_family(struct keeper *k)
{
    char text[24];
    int status = 0;
    int r = 0;

    while (waitpid(k->session.pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (k->lock.fd >= 0) {
        r = recover(k);
        (void)dotlock_release(&k->lock);
    }
    if (r == 0) /* else the next boot tries again */
        clear_marker(k);
    (void)chain_end(&k->auth, CLOSE_TIMEOUT);
    (void)chain_end(&k->tls, FLUSH_TIMEOUT);
    if (!WIFSIGNALED(status))
        return 0;
    chain_status_text(status, text);
    LOG_EVENT(LOG_ERR, "part failed", LOG_FC("part", "session"), LOG_FC("status", text), LOG_FC("user", k->user.name));
    return -ECHILD;
}

static int parse_child(const char *text, int fd, struct chain_child *ret)
{
    uint32_t pid = 0;

    if (str_to_u32(str_from(text), &pid) < 0 || pid > INT_MAX || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -EINVAL;
    *ret = (struct chain_child){.pid = (pid_t)pid, .control = fd};
    return 0;
}

/* The whole life, from set-up to the end of the family. */
static int live(struct keeper *k, const char *user)
{
    int r = 0;

    k->lock.fd = -1;
    r = set_up(k, user);
    if (r == 0) {
        be_user(k);
        r = serve(k);
    }
    if (r < 0)
        LOG_ERROR(LOG_ERR, "keeper failed", r, LOG_FC("user", user));
    close_fd(&k->session.control);
    if (end_family(k) < 0)
        r = -ECHILD;
    close_fd(&k->folder);
    close_fd(&k->markers);
    priv_user_finish(&k->user);
    return r < 0 ? EX_SOFTWARE : 0;
}

int keeper_main(const struct conf *conf, int argc, char **argv)
{
    struct keeper k = {.conf = conf, .folder = -1, .markers = -1};

    if (argc != 6 || parse_child(argv[3], SESSION_FD, &k.session) < 0 || parse_child(argv[4], TLS_FD, &k.tls) < 0 ||
        parse_child(argv[5], AUTH_FD, &k.auth) < 0 || k.session.pid == 0)
        return EX_USAGE;
    return live(&k, argv[2]);
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

    return live(&k, k.user.name);
}
