/*
 * Starting programs. The parent's half runs in the monitor or keeper (root), the child's half between fork and exec.
 */
#include "shared/gate/chain.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/gate/offspring.h"
#include "shared/gate/session.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"

#define CONTROL_FD     3
#define ARGUMENTS_MAX  64
#define ENVIRONMENT    24
#define EXEC_FAILED    127
#define FIRST_SPARE_FD 16 /* sources are moved here and above before the final places are filled */

/* ---- finding the program ---- */

static bool is_program(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static int print_path(char *out, size_t size, const char *folder, const char *middle, size_t middle_len,
                      const char *program)
{
    int n = middle_len > 0 ? snprintf(out, size, "%s/../%.*s/%s", folder, (int)middle_len, middle, program)
                           : snprintf(out, size, "%s/%s", folder, program);

    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int chain_locate(const char *program, char *out, size_t size)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash = NULL;
    int r = 0;

    if (n > 0) {
        self[n] = '\0';
        slash = strrchr(self, '/');
    }
    if (slash) {
        *slash = '\0';
        r = print_path(out, size, self, "", 0, program);
        if (r < 0 || is_program(out))
            return r;
        /* build/handlers/imap/imap-login: the folder is the name up to the dash */
        r = print_path(out, size, self, program, strcspn(program, "-"), program);
        if (r < 0 || is_program(out))
            return r;
    }
    r = print_path(out, size, PENNYPOST_LIBEXECDIR, "", 0, program);
    return r < 0 || is_program(out) ? r : -ENOENT;
}

/* ---- arguments and environment ---- */

/* Everything that the child needs, made before the fork: after it only system calls are left to do. */
struct launch {
    const struct chain_spec *spec;
    pid_t parent; /* ourselves */
    char path[PATH_MAX];
    char *argv[ARGUMENTS_MAX + 1];
    char *envp[ENVIRONMENT + 1];
    int env_count;
    struct buf strings; /* of the environment; reserved at once so that it never moves */
};

static int set_env(struct launch *l, const char *name, const char *value)
{
    size_t at = l->strings.len;
    int r = 0;

    if (l->env_count == ENVIRONMENT)
        return -E2BIG;
    r = buf_printf(&l->strings, "%s=%s", name, value);
    if (r == 0)
        r = buf_add_byte(&l->strings, '\0');
    if (r < 0)
        return r;
    l->envp[l->env_count++] = l->strings.data + at;
    return 0;
}

static int pass_env(struct launch *l, const char *name)
{
    const char *value = getenv(name);

    return value && strlen(value) < PATH_MAX ? set_env(l, name, value) : 0;
}

/* Where service accounts come from elsewhere than /etc/passwd: a program that has the name service tells. */
static int ask_account(const char *account, uint32_t *ret_uid, uint32_t *ret_gid)
{
    const struct chain_spec spec = {CHAIN_SPEC("auth"), .arguments = {"--account", account}, .has_control = true};
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct chain_child child = CHAIN_CHILD_NONE;
    int r = chain_spawn(&spec, &child);

    if (r < 0)
        return r;
    r = frame_recv(child.control, &f, TIMEOUT_AUTH * 1000);
    (void)chain_end(&child, 0);
    if (r < 0)
        return r == -ENODATA ? -ENOENT : r;
    return f.type != FRAME_ACCOUNT || f.fd >= 0
               ? -EBADMSG
               : frame_take(&f, FRAME_TO_U32(ret_uid, UINT32_MAX), FRAME_TO_U32(ret_gid, UINT32_MAX));
}

static int tell_account(struct launch *l, const char *account)
{
    char value[LIMIT_USER + 32];
    uid_t uid = 0;
    gid_t gid = 0;
    int r = priv_account_listed(account, &uid, &gid);

    if (r == -ENOENT)
        r = ask_account(account, &uid, &gid);

    if (r < 0)
        return r;
    (void)snprintf(value, sizeof(value), "%s:%u:%u", account, (unsigned)uid, (unsigned)gid);
    return set_env(l, PRIV_ACCOUNT_ENV, value);
}

static int make_environment(struct launch *l)
{
    static const char *const passed[] = {"TZ",           "LANG",          "LC_ALL",       "PENNYPOST_LOG",
                                         "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "LLVM_PROFILE_FILE"};
    const struct priv_user *user = l->spec->user;
    int r = buf_reserve(&l->strings, l->strings.max);

    if (r == 0)
        r = set_env(l, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    for (size_t i = 0; i < ARRAY_SIZE(passed) && r == 0; i++)
        r = pass_env(l, passed[i]);
    if (r == 0 && l->spec->has_control)
        r = set_env(l, GATE_CONTROL_ENV, "3");
    if (r == 0 && !user && !l->spec->is_for_user)
        r = pass_env(l, "CREDENTIALS_DIRECTORY");
    if (r == 0 && l->spec->account && priv_is_root())
        r = tell_account(l, l->spec->account);
    if (r == 0 && user)
        r = set_env(l, "USER", user->name);
    if (r == 0 && user)
        r = set_env(l, "LOGNAME", user->name);
    if (r == 0 && user)
        r = set_env(l, "HOME", user->home);
    return r;
}

static int make_arguments(struct launch *l)
{
    int n = 0;

    l->argv[n++] = (char *)(uintptr_t)l->spec->program; /* execve() takes char *const but does not write */
    for (size_t i = 0; i < ARRAY_SIZE(l->spec->arguments) && l->spec->arguments[i]; i++)
        l->argv[n++] = (char *)(uintptr_t)l->spec->arguments[i];
    l->argv[n] = NULL;
    return l->spec->conf ? conf_pass_on(l->spec->conf, l->argv, &n, ARGUMENTS_MAX) : 0;
}

/* ---- between fork and exec ---- */

/* Not every libc has it. */
int chain_close_from(int fd)
{
    return syscall(SYS_close_range, (unsigned)fd, ~0u, 0) < 0 ? -errno : 0;
}

/* Puts the fds in their places. Sources are moved away first, since a place may be another one's source. */
static int place_fds(const struct chain_spec *spec, int control)
{
    int from[CHAIN_FDS];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return -errno;
    for (int i = 0; i < CHAIN_FDS; i++) {
        int source = i == CONTROL_FD && control >= 0 ? control : spec->fds[i];

        if (source == CHAIN_NULL)
            source = null;
        if (source == CHAIN_KEEP)
            source = fcntl(i, F_GETFD) >= 0 ? i : null;
        from[i] = source < 0 ? -1 : fcntl(source, F_DUPFD_CLOEXEC, FIRST_SPARE_FD);
        if (source >= 0 && from[i] < 0)
            return -errno;
    }
    for (int i = 0; i < CHAIN_FDS; i++) {
        if (from[i] < 0)
            (void)close(i);
        else if (dup2(from[i], i) < 0)
            return -errno;
    }
    return chain_close_from(CHAIN_FDS);
}

static void reset_signals(void)
{
    struct sigaction normal = {.sa_handler = SIG_DFL};
    sigset_t none;

    (void)sigaction(SIGPIPE, &normal, NULL);
    (void)sigaction(SIGCHLD, &normal, NULL);
    (void)sigaction(SIGHUP, &normal, NULL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static int set_directory(const struct chain_spec *spec)
{
    if (spec->working_directory >= 0)
        return fchdir(spec->working_directory) < 0 ? -errno : 0;
    return (spec->user || spec->is_for_user) && priv_is_root() && chdir("/") < 0 ? -errno : 0;
}

_noreturn_ static void run_child(const struct launch *l, int control)
{
    const struct chain_spec *spec = l->spec;
    int r = set_directory(spec);

    reset_signals();
    if (r == 0)
        r = place_fds(spec, control);
    if (spec->user || spec->is_for_user)
        (void)umask(077);
    if (r == 0 && spec->user)
        r = priv_become(spec->user);
    if (r == 0 && spec->no_new_privs)
        r = priv_no_new_privs();
    if (r == 0 && spec->dies_with_us)
        r = priv_die_with_parent(l->parent, SIGTERM);
    if (r == 0 && spec->is_reaper && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) /* stays over exec */
        r = -errno;
    if (r == 0)
        (void)execve(l->path, l->argv, l->envp);
    _exit(EXEC_FAILED);
}

/* ---- the parent ---- */

static int prepare(struct launch *l)
{
    int r = chain_locate(l->spec->program, l->path, sizeof(l->path));

    if (r == 0)
        r = make_arguments(l);
    if (r == 0)
        r = make_environment(l);
    return r;
}

/* vfork(), since the child does system calls only and a monitor is started for every connection: copying its page
 * tables would be a tenth of the time to the greeting. A function of its own, so that the child changes no variable of
 * the parent. */
static __attribute__((noinline)) pid_t split(const struct launch *l, int control)
{
    pid_t pid = vfork();

    if (pid == 0)
        run_child(l, control);
    return pid;
}

int chain_spawn(const struct chain_spec *spec, struct chain_child *ret)
{
    struct launch l = {.spec = spec, .parent = getpid(), .strings = BUF_INIT(32u << 10)};
    int control[2] = {-1, -1};
    int r = prepare(&l);
    pid_t pid = -1;

    if (r == 0 && spec->has_control)
        r = frame_pair(control);
    if (r == 0) {
        pid = split(&l, control[1]);
        if (pid < 0)
            r = -errno;
    }
    buf_finish(&l.strings);
    close_fd(&control[1]);
    if (r < 0) {
        close_fd(&control[0]);
        return r;
    }
    *ret = (struct chain_child){.pid = pid, .control = control[0], .is_reaper = spec->is_reaper};
    return 0;
}

/* Leaves it to be reaped: until then its number is nobody else's. 1: it has ended, 0: the time is up. */
static int wait_child(pid_t pid, int timeout_ms, siginfo_t *ret)
{
    int64_t end = clock_monotonic_ms() + timeout_ms;
    _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

    for (;;) {
        struct pollfd p = {.fd = pidfd, .events = POLLIN};
        int64_t left = end - clock_monotonic_ms();

        *ret = (siginfo_t){0};
        if (waitid(P_PID, (id_t)pid, ret, WEXITED | WNOHANG | WNOWAIT) < 0 && errno != EINTR)
            return -errno;
        if (ret->si_pid == pid)
            return 1;
        if (left <= 0 || pidfd < 0)
            return 0;
        (void)poll(&p, 1, (int)left);
    }
}

int chain_wait(struct chain_child *child, int timeout_ms)
{
    siginfo_t info;
    int r = child->pid > 0 ? wait_child(child->pid, timeout_ms, &info) : 1;

    if (r != 1)
        return r == 0 ? -ETIMEDOUT : r;
    (void)chain_end(child, 0);
    return 0;
}

bool chain_is_over(const struct chain_child *child, int timeout_ms)
{
    siginfo_t info;

    return wait_child(child->pid, timeout_ms, &info) == 1 && info.si_code == CLD_EXITED;
}

int chain_end(struct chain_child *child, int timeout_ms)
{
    siginfo_t info;
    int status = 0;
    int r = 0;

    close_fd(&child->control);
    if (child->pid > 0)
        r = wait_child(child->pid, timeout_ms, &info);
    if (child->pid > 0 && r == 0 && child->is_reaper)
        offspring_end(child->pid);
    if (child->pid > 0 && r >= 0) {
        /* auth leads a group of its own: what a PAM module has started and not put into another group ends with it.
         * Of one that crashed there is nothing else to find: its children are somebody else's already. */
        if ((r == 0 || info.si_code != CLD_EXITED) && kill(-child->pid, SIGKILL) < 0)
            (void)kill(child->pid, SIGKILL);
        while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    *child = CHAIN_CHILD_NONE;
    return r < 0 ? r : status;
}

bool chain_has_failed(int status)
{
    return WIFSIGNALED(status) || WEXITSTATUS(status) >= EX__BASE;
}

void chain_status_text(int status, char out[static 24])
{
    if (WIFSIGNALED(status))
        (void)snprintf(out, 24, "signal %d", WTERMSIG(status));
    else
        (void)snprintf(out, 24, "exit %d", WEXITSTATUS(status));
}
