/*
 * Makes the seccomp filters at build time: prints them as C arrays. Runs on the machine that builds, for the machine
 * that will run them; the only program that links libseccomp.
 *
 * usage: sandbox_gen ARCHITECTURE | none
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIST_MAX 48

struct rule_list {
    const char *names[LIST_MAX];
};

/* Bytes over fds that are there already, time, memory, leaving. */
static const struct rule_list COMMON = {{
    "read",         "write", "readv",     "writev", "recvfrom",        "recvmsg",      "sendto",
    "sendmsg",      "poll",  "ppoll",     "close",  "shutdown",        "dup",          "dup2",
    "dup3",         "brk",   "munmap",    "mremap", "madvise",         "exit",         "clock_gettime",
    "gettimeofday", "time",  "getrandom", "getpid", "restart_syscall", "rt_sigreturn", "rt_sigprocmask",
    "exit_group",
}};

/* What some of them are called where a long has 32 bits. */
static const struct rule_list NARROW = {{"clock_gettime64", "ppoll_time64", "recv", "send", "sigreturn"}};

/* relay-session reads the message from a file that it was given. It is the queue's own, open for writing since it is
 * locked; what write() could do to it RLIMIT_FSIZE forbids, and nothing here cuts it off. */
static const struct rule_list FILES = {{"lseek", "_llseek", "pread64", "fstat", "fstat64"}};

/* OpenSSL's locks and its look at the process. */
static const struct rule_list OPENSSL = {{"futex", "futex_time64", "sched_yield", "gettid", "getuid", "getuid32",
                                          "geteuid", "geteuid32", "getgid", "getgid32", "getegid", "getegid32",
                                          "setsockopt", "getsockopt", "getppid", "nanosleep", "clock_nanosleep",
                                          "clock_nanosleep_time64"}};

/* Asking DNS servers. No socketpair: the local sockets that it makes could be connected to others' (those without a
 * path are found from an empty root too). */
static const struct rule_list NETWORK = {
    {"connect",         "bind",     "getsockname", "getpeername",  "setsockopt",    "getsockopt", "recvmmsg",
     "recvmmsg_time64", "sendmmsg", "futex",       "futex_time64", "epoll_create1", "epoll_ctl",  "epoll_wait",
     "epoll_pwait",     "pipe2",    "uname",       "gettid",       "sched_yield",   "eventfd2"}};

/* What is answered with an error instead of death: libraries try these and go on without. */
static const struct rule_list DENIED = {{"open", "openat", "access", "faccessat", "faccessat2", "stat", "stat64",
                                         "lstat", "lstat64", "newfstatat", "fstatat64", "statx", "readlink",
                                         "readlinkat", "ioctl", "sysinfo", "uname", "socketpair"}};

struct role {
    const char *name;
    const struct rule_list *allow[4];
    const struct rule_list *deny;
    bool has_sockets; /* of the internet, and no other kind */
};

static const struct role ROLES[] = {
    {"LOGIN", {&COMMON, &NARROW}, NULL, false},
    {"TLS", {&COMMON, &NARROW, &OPENSSL}, &DENIED, false},
    {"RELAY", {&COMMON, &NARROW, &FILES, &OPENSSL}, &DENIED, false},
    {"FETCH", {&COMMON, &NARROW, &OPENSSL, &NETWORK}, &DENIED, true},
    {"RESOLVE", {&COMMON, &NARROW, &NETWORK}, &DENIED, true},
};

/* A rule for a call that some machines do not have. */
#define ALLOW(ctx, call, count, ...) is_fine(seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(call), count, __VA_ARGS__))

static int is_fine(int r)
{
    return r == -EDOM || r == -EEXIST ? 0 : r;
}

static int add_list(scmp_filter_ctx ctx, const struct rule_list *list, uint32_t action)
{
    for (size_t i = 0; i < LIST_MAX && list->names[i]; i++) {
        int number = seccomp_syscall_resolve_name(list->names[i]);
        int r = 0;

        if (number == __NR_SCMP_ERROR) {
            fprintf(stderr, "sandbox_gen: no system call %s\n", list->names[i]);
            return -ENOSYS;
        }
        r = is_fine(seccomp_rule_add(ctx, action, number, 0));
        if (r < 0)
            return r;
    }
    return 0;
}

/* Memory, but no file, and nothing that can be executed. */
static int add_memory(scmp_filter_ctx ctx)
{
    const struct scmp_arg_cmp no_code = SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    const struct scmp_arg_cmp no_file = SCMP_A3_64(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS);
    int r = ALLOW(ctx, mmap, 2, no_code, no_file);

    if (r == 0)
        r = ALLOW(ctx, mmap2, 2, no_code, no_file);
    return r < 0 ? r : ALLOW(ctx, mprotect, 1, no_code);
}

/* Looking at an fd, copying it, making it non-blocking. Not what makes the kernel send signals for it: F_SETOWN,
 * F_SETSIG and O_ASYNC together are a kill() of every process of the same account. */
static int add_fcntl(scmp_filter_ctx ctx)
{
    static const int commands[] = {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL};
    const struct scmp_arg_cmp set = SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, F_SETFL);
    const struct scmp_arg_cmp no_signal = SCMP_A2(SCMP_CMP_MASKED_EQ, O_ASYNC, 0);
    int r = ALLOW(ctx, fcntl, 2, set, no_signal);

    if (r == 0)
        r = ALLOW(ctx, fcntl64, 2, set, no_signal);
    for (size_t i = 0; r == 0 && i < sizeof(commands) / sizeof(commands[0]); i++) {
        const struct scmp_arg_cmp command = SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, (scmp_datum_t)commands[i]);

        r = ALLOW(ctx, fcntl, 1, command);
        if (r == 0)
            r = ALLOW(ctx, fcntl64, 1, command);
    }
    return r;
}

/* fstat() of current libcs: newfstatat(fd, "", AT_EMPTY_PATH), or statx(fd, "", AT_EMPTY_PATH). */
static int add_fstat(scmp_filter_ctx ctx)
{
    int r = ALLOW(ctx, newfstatat, 1, SCMP_A3_64(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));

    return r < 0 ? r : ALLOW(ctx, statx, 1, SCMP_A2_64(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
}

static int add_sockets(scmp_filter_ctx ctx)
{
    int r = ALLOW(ctx, socket, 1, SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, AF_INET));

    return r < 0 ? r : ALLOW(ctx, socket, 1, SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, AF_INET6));
}

static int fill(scmp_filter_ctx ctx, const struct role *role, uint32_t arch)
{
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

    if (r == 0 && arch != seccomp_arch_native()) {
        r = seccomp_arch_add(ctx, arch);
        if (r == 0)
            r = seccomp_arch_remove(ctx, seccomp_arch_native());
    }
    for (size_t i = 0; r == 0 && i < sizeof(role->allow) / sizeof(role->allow[0]) && role->allow[i]; i++)
        r = add_list(ctx, role->allow[i], SCMP_ACT_ALLOW);
    if (r == 0)
        r = add_memory(ctx);
    if (r == 0)
        r = add_fcntl(ctx);
    if (r == 0 && role->has_sockets)
        r = add_sockets(ctx);
    if (r == 0 && !role->deny)
        r = add_fstat(ctx);
    if (r == 0 && role->deny)
        r = add_list(ctx, role->deny, SCMP_ACT_ERRNO(EACCES));
    if (r == 0)
        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    return r;
}

static int print_filter(scmp_filter_ctx ctx, const char *name)
{
    struct sock_filter instruction;
    int fd = memfd_create("filter", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : seccomp_export_bpf(ctx, fd);

    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
        r = -errno;
    printf("static const struct sock_filter SANDBOX_FILTER_%s[] = {\n", name);
    while (r == 0 && read(fd, &instruction, sizeof(instruction)) == (ssize_t)sizeof(instruction))
        printf("    {0x%04x, %u, %u, 0x%08x},\n", instruction.code, instruction.jt, instruction.jf, instruction.k);
    printf("};\n");
    if (fd >= 0)
        (void)close(fd);
    return r;
}

static int print_role(const struct role *role, uint32_t arch)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int r = ctx ? fill(ctx, role, arch) : -ENOMEM;

    if (r == 0)
        r = print_filter(ctx, role->name);
    if (r < 0)
        fprintf(stderr, "sandbox_gen: %s: %s\n", role->name, strerror(-r));
    if (ctx)
        seccomp_release(ctx);
    return r;
}

int main(int argc, char **argv)
{
    bool is_none = argc == 2 && strcmp(argv[1], "none") == 0;
    uint32_t arch = argc == 2 && !is_none ? seccomp_arch_resolve_name(argv[1]) : seccomp_arch_native();

    if (argc != 2 || arch == 0) {
        fprintf(stderr, "usage: sandbox_gen ARCHITECTURE | none\n");
        return 64;
    }
    printf("/* Made by sandbox_gen.c. */\n#define SANDBOX_IS_BUILT %d\n", is_none ? 0 : 1);
    for (size_t i = 0; !is_none && i < sizeof(ROLES) / sizeof(ROLES[0]); i++)
        if (print_role(&ROLES[i], arch) < 0)
            return 1;
    return 0;
}
