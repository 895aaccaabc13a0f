/*
 * Puts itself under a program and stops it, fails it or writes down what it does at every system call that changes a
 * file. Loaded with LD_PRELOAD; without CRASH_DIR in the environment it does nothing.
 *
 * It is a seccomp filter of the process itself (SECCOMP_RET_TRAP), not a set of wrapped functions: calls made inside
 * libc (stdio, mkstemp) and by liblockfile are seen as well. The SIGSYS handler makes the call again from the one
 * instruction that the filter lets through.
 *
 *   CRASH_DIR     only calls on files below this folder count (absolute, without a slash at the end)
 *   CRASH_MODE    kill: SIGKILL before call number CRASH_AT.  torn: the same in the middle of it (half of a write is
 *                 done; other calls are done whole).  fail: call number CRASH_AT and, with CRASH_STICKY=1, all later
 *                 ones that need space, with 2 all later ones but syncs, fail with CRASH_ERRNO; the first does half of
 *                 a write.  stop: SIGSTOP before call number
 *                 CRASH_AT, for a test that does something meanwhile.  trace: all calls go to CRASH_TRACE.
 *   CRASH_NO_COLLAPSE  fallocate(COLLAPSE_RANGE, INSERT_RANGE) answer EOPNOTSUPP, as tmpfs, btrfs and NFS do
 *   CRASH_ROOM    fallocate of more bytes than this at once answers ENOSPC
 *   CRASH_NO_SYNC      fsync and fdatasync succeed and do nothing: with it the power-cut test must find losses
 *   CRASH_SKIP_SYNC    they are counted, failed and traced like any call, and the disk is left alone: only a power cut
 *                      would show it, and those are worked out from the trace
 *   CRASH_PLAIN_TIMES  see times.c
 *   CRASH_BOOT         a file that is read in the place of the kernel's boot id: the machine was started again
 *
 * Exit status 98: a writable shared mapping of a file below CRASH_DIR (no test could see its writes).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/crash/interpose.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define SIGSYS_BIT    (1ull << (SIGSYS - 1))

/* The filter knows the address behind the trap instruction of crash_syscall(). */
extern char crash_syscall_end[] __attribute__((visibility("hidden")));

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
__asm__(".text\n.globl crash_syscall\n.hidden crash_syscall\n.type crash_syscall,@function\n"
        ".globl crash_syscall_end\n.hidden crash_syscall_end\n"
        "crash_syscall:\n"
        "mov %rdi,%rax\n mov %rsi,%rdi\n mov %rdx,%rsi\n mov %rcx,%rdx\n mov %r8,%r10\n mov %r9,%r8\n mov 8(%rsp),%r9\n"
        "syscall\ncrash_syscall_end:\nret\n");
#define REG(uc, n) ((uc)->uc_mcontext.gregs[n])
static const int arg_regs[] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
#define ARG(uc, n)        ((long)REG(uc, arg_regs[n]))
#define SET_RESULT(uc, r) (REG(uc, REG_RAX) = (r))
#elif defined(__aarch64__)
#define THIS_ARCH         AUDIT_ARCH_AARCH64
__asm__(".text\n.globl crash_syscall\n.hidden crash_syscall\n.type crash_syscall,%function\n"
        ".globl crash_syscall_end\n.hidden crash_syscall_end\n"
        "crash_syscall:\n"
        "mov x8,x0\n mov x0,x1\n mov x1,x2\n mov x2,x3\n mov x3,x4\n mov x4,x5\n mov x5,x6\n"
        "svc #0\ncrash_syscall_end:\nret\n");
#define ARG(uc, n)        ((long)(uc)->uc_mcontext.regs[n])
#define SET_RESULT(uc, r) ((uc)->uc_mcontext.regs[0] = (unsigned long long)(r))
#else
#error "only x86-64 and arm64"
#endif

static struct interpose_plan plan;
static const char *boot_file;

/* ---- the trap ---- */

/* The older calls become the *at ones. */
static void modernise(struct call *c)
{
    static const struct {
        long old, at;
        int fds; /* bit n: an AT_FDCWD goes before argument n */
        long flags;
    } map[] = {
#if defined(__x86_64__)
        {SYS_open, SYS_openat, 1, 0},
        {SYS_mkdir, SYS_mkdirat, 1, 0},
        {SYS_unlink, SYS_unlinkat, 1, 0},
        {SYS_rmdir, SYS_unlinkat, 1, AT_REMOVEDIR},
        {SYS_link, SYS_linkat, 3, 0},
        {SYS_rename, SYS_renameat2, 3, 0},
        {SYS_symlink, SYS_symlinkat, 2, 0},
        {SYS_creat, SYS_openat, 1, 0},
        {SYS_renameat, SYS_renameat2, 0, 0},
        {SYS_chmod, SYS_fchmodat, 1, 0},
#else
        {SYS_renameat, SYS_renameat2, 0, 0},
#endif
    };
    long a[6];

    memcpy(a, c->arg, sizeof(a));
    for (size_t i = 0; i < ARRAY_SIZE(map); i++) {
        if (map[i].old != c->nr)
            continue;
        c->nr = map[i].at;
        if (map[i].fds == 1) {
            long flags = map[i].flags;

#if defined(__x86_64__)
            if (map[i].old == SYS_creat) {
                a[2] = a[1];
                flags = O_CREAT | O_TRUNC | O_WRONLY;
            }
#endif
            c->arg[0] = AT_FDCWD;
            c->arg[1] = a[0];
            c->arg[2] = flags != 0 || map[i].at == SYS_unlinkat ? flags : a[1];
            c->arg[3] = a[2];
        } else if (map[i].fds == 2) {
            c->arg[0] = a[0];
            c->arg[1] = AT_FDCWD;
            c->arg[2] = a[1];
        } else if (map[i].fds == 3) {
            c->arg[0] = c->arg[2] = AT_FDCWD;
            c->arg[1] = a[0];
            c->arg[3] = a[1];
            c->arg[4] = 0;
        } else {
            c->arg[4] = 0;
        }
        return;
    }
}

/* The mask that the handler's return puts in force, as the program asked, but SIGSYS is never blocked. */
static long emulate_sigprocmask(ucontext_t *uc, const struct call *c)
{
    uint64_t set, old;

    memcpy(&old, &uc->uc_sigmask, sizeof(old));
    if (c->arg[2] != 0)
        memcpy((void *)c->arg[2], &old, sizeof(old));
    if (c->arg[1] == 0)
        return 0;
    memcpy(&set, (const void *)c->arg[1], sizeof(set));
    if (c->arg[0] == SIG_BLOCK)
        set |= old;
    else if (c->arg[0] == SIG_UNBLOCK)
        set = old & ~set;
    set &= ~SIGSYS_BIT;
    memcpy(&uc->uc_sigmask, &set, sizeof(set));
    return 0;
}

/* Another start of the machine: the file that CRASH_BOOT names is read in the place of the kernel's boot id. */
static bool is_boot_id(long path)
{
    return boot_file != NULL && path != 0 && strcmp((const char *)path, "/proc/sys/kernel/random/boot_id") == 0;
}

static void on_trap(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    struct call c = {.nr = info->si_syscall, .kind = CALL_OTHER};
    int saved = errno;
    long r;

    (void)sig;
    for (int i = 0; i < 6; i++)
        c.arg[i] = ARG(uc, i);
    if (c.nr == SYS_rt_sigprocmask) {
        r = emulate_sigprocmask(uc, &c);
    } else if (c.nr == SYS_mmap) {
        if (call_fd_path((int)c.arg[4], c.path) && call_is_below(&plan, c.path))
            call_exit(98);
        r = call_again(&c);
    } else if (c.nr == SYS_write && c.arg[0] == STDOUT_FILENO) {
        call_trace(&plan, "ack", 0, 0, 0, (const void *)c.arg[1], (size_t)c.arg[2]);
        r = call_again(&c);
    } else if (c.nr == SYS_openat && is_boot_id(c.arg[1])) {
        c.arg[1] = (long)boot_file;
        r = call_again(&c);
    } else {
        modernise(&c);
        r = call_look(&plan, &c) ? call_run(&plan, &c) : call_again(&c);
    }
    SET_RESULT(uc, r);
    errno = saved;
}

/* ---- start ---- */

static const int trapped[] = {
    SYS_write,     SYS_pwrite64,  SYS_writev,    SYS_pwritev,   SYS_pwritev2,        SYS_ftruncate, SYS_truncate,
    SYS_fallocate, SYS_fsync,     SYS_fdatasync, SYS_openat,    SYS_openat2,         SYS_mkdirat,   SYS_unlinkat,
    SYS_linkat,    SYS_symlinkat, SYS_renameat,  SYS_renameat2, SYS_copy_file_range, SYS_sendfile,  SYS_fchmod,
    SYS_fchmodat,  SYS_fchown,    SYS_fchownat,  SYS_utimensat, SYS_rt_sigprocmask,
#if defined(__x86_64__)
    SYS_open,      SYS_creat,     SYS_mkdir,     SYS_unlink,    SYS_rmdir,           SYS_link,      SYS_rename,
    SYS_symlink,   SYS_chmod,
#endif
};

static int install_filter(void)
{
    enum { HEAD = 7, MAX = HEAD + 2 * (int)ARRAY_SIZE(trapped) + 16 };
    struct sock_filter code[MAX];
    uint64_t ip = (uint64_t)(uintptr_t)crash_syscall_end;
    unsigned short n = 0;
    struct sock_fprog prog = {.filter = code};

#define DATA(field)         BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define DATA_AT(off)        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (off))
#define JEQ(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))
#define ADD(...)            code[n++] = (struct sock_filter)__VA_ARGS__
    ADD(DATA_AT(offsetof(struct seccomp_data, instruction_pointer)));
    ADD(JEQ((uint32_t)ip, 0, 3));
    ADD(DATA_AT(offsetof(struct seccomp_data, instruction_pointer) + 4));
    ADD(JEQ((uint32_t)(ip >> 32), 0, 1));
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    ADD(DATA(nr));
    for (size_t i = 0; i < ARRAY_SIZE(trapped); i++) {
        ADD(JEQ((uint32_t)trapped[i], 0, 1));
        ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
    }
    /* mmap(PROT_WRITE, MAP_SHARED) of a file: args are prot 2, flags 3 (MAP_ANONYMOUS passes) */
    ADD(JEQ(SYS_mmap, 0, 6));
    ADD(DATA(args[2]));
    ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_WRITE, 0, 4));
    ADD(DATA(args[3]));
    ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 2, 0));
    ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_SHARED, 0, 1));
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    prog.len = n;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0 ? -errno : 0;
}

static int env_mode(const char *name)
{
    static const char *const names[] = {"kill", "torn", "fail", "trace", "cut", "stop"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (name != NULL && strcmp(name, names[i]) == 0) {
            plan.mode = (enum interpose_mode)i;
            return 0;
        }
    }
    return -EINVAL;
}

static long env_number(const char *name)
{
    const char *text = getenv(name);

    return text != NULL ? strtol(text, NULL, 10) : 0;
}

static int open_trace(void)
{
    const char *path = getenv("CRASH_TRACE");
    int fd;

    if (plan.mode != MODE_TRACE)
        return 0;
    fd = open(path != NULL ? path : "", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || dup3(fd, TRACE_FD, O_CLOEXEC) < 0)
        return -errno;
    return close(fd);
}

__attribute__((constructor)) static void start(void)
{
    const char *folder = getenv("CRASH_DIR");
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER};

    if (folder == NULL)
        return;
    boot_file = getenv("CRASH_BOOT");
    plan.dir_len = (size_t)snprintf(plan.dir, sizeof(plan.dir), "%s", folder);
    plan.stop_at = env_number("CRASH_AT");
    plan.fail_errno = (int)env_number("CRASH_ERRNO");
    plan.shutdown = (uint32_t)env_number("CRASH_SHUTDOWN");
    plan.sticky = env_number("CRASH_STICKY");
    plan.has_no_sync = env_number("CRASH_NO_SYNC") != 0;
    plan.skips_sync = env_number("CRASH_SKIP_SYNC") != 0;
    plan.room = env_number("CRASH_ROOM");
    plan.has_no_collapse = env_number("CRASH_NO_COLLAPSE") != 0;
    if (plan.dir_len == 0 || plan.dir_len >= sizeof(plan.dir) || env_mode(getenv("CRASH_MODE")) < 0 ||
        open_trace() < 0 || sigaction(SIGSYS, &action, NULL) < 0 || install_filter() < 0)
        _exit(96);
}
