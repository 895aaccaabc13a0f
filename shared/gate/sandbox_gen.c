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
    "read",         "write",      "readv",     "writev", "recvfrom",        "recvmsg",      "sendto",
    "sendmsg",      "poll",       "ppoll",     "close",  "shutdown",        "dup",          "dup2",
    "dup3",         "fcntl",      "brk",       "munmap", "mremap",          "madvise",      "clock_gettime",
    "gettimeofday", "time",       "getrandom", "getpid", "restart_syscall", "rt_sigreturn", "rt_sigprocmask",
    "exit",         "exit_group",
}};

/* relay-session reads the message from a file that it was given. */
static const struct rule_list FILES = {{"lseek", "pwrite64", "pread64", "ftruncate", "fstat", "fsync", "fdatasync"}};

/* OpenSSL's locks and its look at the process. */
static const struct rule_list OPENSSL = {{"futex", "sched_yield", "gettid", "getuid", "geteuid", "getgid", "getegid",
                                          "setsockopt", "getsockopt", "getppid", "clock_nanosleep", "nanosleep"}};

/* Asking DNS servers. */
static const struct rule_list NETWORK = {{"socketpair",    "connect",    "bind",       "getsockname", "getpeername",
                                          "setsockopt",    "getsockopt", "recvmmsg",   "sendmmsg",    "futex",
                                          "epoll_create1", "epoll_ctl",  "epoll_wait", "epoll_pwait", "pipe2",
                                          "ioctl",         "uname",      "gettid",     "sched_yield", "eventfd2"}};

/* What is answered with an error instead of death: libraries try these and go on without. */
static const struct rule_list DENIED = {{"open", "openat", "access", "faccessat", "faccessat2", "stat", "lstat",
                                         "newfstatat", "statx", "readlink", "readlinkat", "ioctl", "sysinfo", "uname"}};

struct role {
    const char *name;
    const struct rule_list *allow[4];
    const struct rule_list *deny;
    bool has_sockets; /* of the internet, and no other kind */
};

static const struct role ROLES[] = {
    {"LOGIN", {&COMMON}, NULL, false},
    {"TLS", {&COMMON, &OPENSSL}, &DENIED, false},
    {"RELAY", {&COMMON, &FILES, &OPENSSL}, &DENIED, false},
    {"FETCH", {&COMMON, &OPENSSL, &NETWORK}, &DENIED, true},
    {"RESOLVE", {&COMMON, &NETWORK}, &DENIED, true},
};

static int add_list(scmp_filter_ctx ctx, const struct rule_list *list, uint32_t action)
{
    for (size_t i = 0; i < LIST_MAX && list->names[i]; i++) {
        int number = seccomp_syscall_resolve_name(list->names[i]);
        int r = 0;

        if (number == __NR_SCMP_ERROR) {
            fprintf(stderr, "sandbox_gen: no system call %s\n", list->names[i]);
            return -ENOSYS;
        }
        r = seccomp_rule_add(ctx, action, number, 0);
        if (r < 0 && r != -EDOM && r != -EEXIST)
            return r;
    }
    return 0;
}

/* Memory, but no file, and nothing that can be executed. */
static int add_memory(scmp_filter_ctx ctx)
{
    int r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2, SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
                             SCMP_A3_64(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS));

    return r < 0 ? r
                 : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                                    SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

/* fstat() of current libcs: newfstatat(fd, "", AT_EMPTY_PATH). */
static int add_fstat(scmp_filter_ctx ctx)
{
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
                            SCMP_A3_64(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
}

static int add_sockets(scmp_filter_ctx ctx)
{
    int r =
        seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, AF_INET));

    return r < 0 ? r
                 : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                                    SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, AF_INET6));
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
