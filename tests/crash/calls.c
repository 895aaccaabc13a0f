/*
 * The meaning of a trapped system call: which file below the folder it changes, what to write down about it, and how to
 * stop or fail in the middle of it. Runs inside the SIGSYS handler of interpose.c: no malloc, no stdio streams.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/crash/interpose.h"

/* linux/fs.h does not have it: _IOR('X', 125, __u32), flags as ext4 and XFS define them */
#define FS_IOC_SHUTDOWN _IOR('X', 125, uint32_t)

#define SYS0(nr)             crash_syscall((nr), 0, 0, 0, 0, 0, 0)
#define SYS3(nr, a, b, c)    crash_syscall((nr), (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define SYS4(nr, a, b, c, d) crash_syscall((nr), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

_Noreturn void call_exit(int status)
{
    for (;;)
        (void)SYS3(SYS_exit_group, status, 0, 0);
}

long call_again(const struct call *c)
{
    return crash_syscall(c->nr, c->arg[0], c->arg[1], c->arg[2], c->arg[3], c->arg[4], c->arg[5]);
}

/* ---- which file ---- */

bool call_is_below(const struct interpose_plan *plan, const char *path)
{
    return strncmp(path, plan->dir, plan->dir_len) == 0 && (path[plan->dir_len] == '/' || path[plan->dir_len] == '\0');
}

bool call_fd_path(int fd, char *path)
{
    char link[64];
    ssize_t n;

    if (fd == AT_FDCWD)
        (void)snprintf(link, sizeof(link), "/proc/self/cwd");
    else
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, PATH_MAX - 1);
    if (n < 0)
        return false;
    path[n] = '\0';
    return true;
}

static bool at_path(long fd, long name_arg, char *path)
{
    const char *name = name_arg != 0 ? (const char *)name_arg : "";
    char base[PATH_MAX];
    int n;

    if (strncmp(name, "/proc/self/fd/", 14) == 0)
        return call_fd_path((int)strtol(name + 14, NULL, 10), path); /* linkat() of an unnamed file */
    if (name[0] == '/')
        n = snprintf(path, PATH_MAX, "%s", name);
    else if (name[0] == '\0')
        return call_fd_path((int)fd, path);
    else if (!call_fd_path((int)fd, base))
        return false;
    else
        n = snprintf(path, PATH_MAX, "%s/%s", base, name);
    return n > 0 && n < PATH_MAX;
}

static bool look_open(struct call *c)
{
    long flags = c->nr == SYS_openat2 ? (long)*(const uint64_t *)c->arg[2] : c->arg[2];
    bool is_unnamed = (flags & O_TMPFILE) == O_TMPFILE;

    if (!(flags & (O_CREAT | O_TRUNC)) && !is_unnamed)
        return false;
    if (!at_path(c->arg[0], c->arg[1], c->path))
        return false;
    c->is_new = is_unnamed || access(c->path, F_OK) != 0;
    return c->is_new || (flags & O_TRUNC);
}

static bool is_vector(long nr)
{
    return nr == SYS_writev || nr == SYS_pwritev || nr == SYS_pwritev2;
}

static size_t vector_size(const struct call *c)
{
    const struct iovec *v = (const struct iovec *)c->arg[1];
    size_t total = 0;

    for (long i = 0; i < c->arg[2]; i++)
        total += v[i].iov_len;
    return total;
}

bool call_look(const struct interpose_plan *plan, struct call *c)
{
    bool is_known;

    c->kind = CALL_PATH;
    switch (c->nr) {
    case SYS_openat:
    case SYS_openat2:
        return look_open(c) && call_is_below(plan, c->path);
    case SYS_mkdirat:
    case SYS_unlinkat:
    case SYS_fchmodat:
    case SYS_fchownat:
    case SYS_utimensat:
        return at_path(c->arg[0], c->arg[1], c->path) && call_is_below(plan, c->path);
    case SYS_symlinkat:
        return at_path(c->arg[1], c->arg[2], c->path) && call_is_below(plan, c->path);
    case SYS_linkat:
    case SYS_renameat2:
        return at_path(c->arg[0], c->arg[1], c->path) && at_path(c->arg[2], c->arg[3], c->path2) &&
               (call_is_below(plan, c->path) || call_is_below(plan, c->path2));
    case SYS_truncate:
        return at_path(AT_FDCWD, c->arg[0], c->path) && call_is_below(plan, c->path);
    case SYS_copy_file_range:
        c->kind = CALL_OTHER;
        return call_fd_path((int)c->arg[2], c->path) && call_is_below(plan, c->path);
    case SYS_write:
    case SYS_pwrite64:
        c->len = (size_t)c->arg[2];
        break;
    case SYS_writev:
    case SYS_pwritev:
    case SYS_pwritev2:
        c->len = vector_size(c);
        break;
    default:
        c->kind = CALL_OTHER;
        break;
    }
    if (c->kind == CALL_PATH)
        c->kind = CALL_WRITE;
    is_known = call_fd_path((int)c->arg[0], c->path);
    return is_known && call_is_below(plan, c->path);
}

/* ---- the bytes of a write ---- */

static void write_offset(struct call *c)
{
    int fd = (int)c->arg[0];

    if (c->nr == SYS_pwritev2 && (c->arg[5] & RWF_APPEND))
        c->offset = lseek(fd, 0, SEEK_END);
    else if (c->nr == SYS_pwrite64 || c->nr == SYS_pwritev || c->nr == SYS_pwritev2)
        c->offset = (off_t)c->arg[3];
    else if (c->nr == SYS_copy_file_range)
        c->offset = c->arg[3] != 0 ? *(off_t *)c->arg[3] : lseek((int)c->arg[2], 0, SEEK_CUR);
    else if (c->kind == CALL_WRITE && (fcntl(fd, F_GETFL) & O_APPEND))
        c->offset = lseek(fd, 0, SEEK_END);
    else if (c->kind == CALL_WRITE || c->nr == SYS_sendfile)
        c->offset = lseek(fd, 0, SEEK_CUR);
}

static char *scratch(size_t len)
{
    char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        call_exit(97);
    return p;
}

/* Copies the first `len` bytes of what is written. */
static void write_gather(const struct call *c, char *to, size_t len)
{
    const struct iovec *v = (const struct iovec *)c->arg[1];
    size_t done = 0;

    if (!is_vector(c->nr)) {
        memcpy(to, (const void *)c->arg[1], len);
        return;
    }
    for (long i = 0; i < c->arg[2] && done < len; i++) {
        size_t n = v[i].iov_len < len - done ? v[i].iov_len : len - done;

        if (n > 0)
            memcpy(to + done, v[i].iov_base, n);
        done += n;
    }
}

/* Writes the first half of what the call would write. */
static long write_half(const struct call *c)
{
    size_t half = c->len / 2;
    char *copy;
    long r;

    if (half == 0)
        return 0;
    copy = scratch(half);
    write_gather(c, copy, half);
    r = SYS4(SYS_pwrite64, c->arg[0], copy, half, c->offset);
    (void)munmap(copy, half);
    return r;
}

/* ---- trace ---- */

static void trace_bytes(const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) {
        long n = SYS3(SYS_write, TRACE_FD, p, len);

        if (n <= 0)
            call_exit(97);
        p += n;
        len -= (size_t)n;
    }
}

void call_trace(const struct interpose_plan *plan, const char *op, unsigned long long ino, long long a, long long b,
                const void *data, size_t len)
{
    char head[160];
    int n;

    if (plan->mode != MODE_TRACE)
        return;
    n = snprintf(head, sizeof(head), "%s %llu %lld %lld %zu\n", op, ino, a, b, len);
    trace_bytes(head, (size_t)n);
    trace_bytes(data, len);
    trace_bytes("\n", 1);
}

static void trace_path(const struct interpose_plan *plan, const char *op, unsigned long long ino, const char *path)
{
    call_trace(plan, op, ino, 0, 0, path, strlen(path));
}

static void trace_mtime(const struct interpose_plan *plan, const struct stat *st)
{
    call_trace(plan, "mtime", st->st_ino, st->st_mtim.tv_sec, st->st_mtim.tv_nsec, NULL, 0);
}

/* A write, or bytes that another call brought into the file, which are read back. */
static void trace_data(const struct interpose_plan *plan, const struct call *c, int fd, const struct stat *st, long len)
{
    char *copy;

    if (len <= 0)
        return;
    copy = scratch((size_t)len);
    if (c->kind == CALL_WRITE)
        write_gather(c, copy, (size_t)len);
    else if (SYS4(SYS_pread64, fd, copy, len, c->offset) != len)
        call_exit(97);
    call_trace(plan, "write", st->st_ino, (long long)c->offset, 0, copy, (size_t)len);
    trace_mtime(plan, st);
    (void)munmap(copy, (size_t)len);
}

static void note_fd(const struct interpose_plan *plan, const struct call *c, long result)
{
    int fd = (int)(c->nr == SYS_copy_file_range ? c->arg[2] : c->arg[0]);
    struct stat st;

    if (fstat(fd, &st) < 0)
        call_exit(97);
    switch (c->nr) {
    case SYS_ftruncate:
        call_trace(plan, "size", st.st_ino, c->arg[1], 0, NULL, 0);
        trace_mtime(plan, &st);
        break;
    case SYS_fsync:
        trace_path(plan, "fsync", st.st_ino, c->path);
        break;
    case SYS_fdatasync:
        trace_path(plan, "fdatasync", st.st_ino, c->path);
        break;
    case SYS_fallocate:
        call_trace(plan, "fallocate", st.st_ino, c->arg[2], c->arg[3], &c->arg[1], sizeof(int));
        trace_mtime(plan, &st);
        break;
    case SYS_fchmod:
    case SYS_fchown:
        break; /* do not change what a mailbox holds */
    default:
        trace_data(plan, c, fd, &st, result);
        break;
    }
}

static void note_open(const struct interpose_plan *plan, const struct call *c, long result)
{
    struct stat st;
    bool has_name;

    if (fstat((int)result, &st) < 0)
        call_exit(97);
    has_name = st.st_nlink > 0;
    if (!c->is_new)
        call_trace(plan, "size", st.st_ino, 0, 0, NULL, 0);
    else
        trace_path(plan, has_name ? "create" : "inode", st.st_ino, has_name ? c->path : "");
}

static void note_path(const struct interpose_plan *plan, const struct call *c, ino_t old_ino, long result)
{
    const char *path = c->nr == SYS_linkat || c->nr == SYS_renameat2 ? c->path2 : c->path;
    struct stat st = {0};

    if (c->nr != SYS_unlinkat && c->nr != SYS_openat && c->nr != SYS_openat2 && lstat(path, &st) < 0)
        call_exit(97);
    switch (c->nr) {
    case SYS_openat:
    case SYS_openat2:
        note_open(plan, c, result);
        break;
    case SYS_mkdirat:
        trace_path(plan, "mkdir", st.st_ino, path);
        break;
    case SYS_unlinkat:
        trace_path(plan, c->arg[2] & AT_REMOVEDIR ? "rmdir" : "unlink", old_ino, path);
        break;
    case SYS_linkat:
        trace_path(plan, "link", st.st_ino, path);
        break;
    case SYS_renameat2:
        trace_path(plan, S_ISDIR(st.st_mode) ? "renamedir" : "rename", st.st_ino, c->path);
        trace_path(plan, "to", st.st_ino, path);
        break;
    case SYS_truncate:
        call_trace(plan, "size", st.st_ino, c->arg[1], 0, NULL, 0);
        trace_mtime(plan, &st);
        break;
    case SYS_symlinkat:
        trace_path(plan, "symlink", st.st_ino, path);
        break;
    case SYS_utimensat:
        trace_mtime(plan, &st);
        break;
    default:
        break;
    }
}

/* ---- running ---- */

/* Stops the file system as a power cut would, what is not in its journal is lost (FS_IOC_SHUTDOWN, of root only). */
static void cut_power(const struct interpose_plan *plan)
{
    int fd = open(plan->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || ioctl(fd, FS_IOC_SHUTDOWN, &plan->shutdown) < 0)
        call_exit(95);
}

static _Noreturn void die(const struct interpose_plan *plan)
{
    if (plan->mode == MODE_CUT)
        cut_power(plan);
    for (;;)
        (void)SYS3(SYS_kill, SYS0(SYS_getpid), SIGKILL, 0);
}

static bool is_sync(const struct call *c)
{
    return c->nr == SYS_fsync || c->nr == SYS_fdatasync;
}

static bool needs_space(const struct call *c)
{
    return c->kind == CALL_WRITE || c->nr == SYS_fallocate || (c->nr == SYS_openat && c->is_new) ||
           c->nr == SYS_mkdirat || c->nr == SYS_copy_file_range || c->nr == SYS_sendfile;
}

/* After the one that failed. */
static bool still_fails(const struct interpose_plan *plan, const struct call *c)
{
    return plan->sticky == 2 ? !is_sync(c) : plan->sticky == 1 && needs_space(c);
}

/* A failing call; a write does its first half, as on a disk that fills up. */
static long fail(const struct interpose_plan *plan, const struct call *c, bool is_first)
{
    long r = 0;

    if (c->kind == CALL_WRITE && is_first)
        r = write_half(c);
    if (r <= 0)
        return -plan->fail_errno;
    if (c->nr == SYS_write || c->nr == SYS_writev || (c->nr == SYS_pwritev2 && c->arg[3] == -1))
        (void)lseek((int)c->arg[0], c->offset + r, SEEK_SET);
    return r;
}

long call_run(const struct interpose_plan *plan, struct call *c)
{
    static long calls;
    struct stat old = {0};
    bool is_here;
    long r;

    calls++;
    is_here = calls == plan->stop_at;
    if ((plan->mode == MODE_KILL || plan->mode == MODE_CUT) && is_here)
        die(plan);
    if (plan->mode == MODE_STOP && is_here)
        (void)SYS3(SYS_kill, SYS0(SYS_getpid), SIGSTOP, 0);
    write_offset(c);
    if (plan->mode == MODE_FAIL && (is_here || (calls > plan->stop_at && still_fails(plan, c))))
        return fail(plan, c, is_here);
    if (plan->mode == MODE_TORN && is_here) {
        (void)(c->kind == CALL_WRITE ? write_half(c) : call_again(c));
        die(plan);
    }
    if (plan->has_no_collapse && c->nr == SYS_fallocate &&
        (c->arg[1] & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)))
        return -EOPNOTSUPP;
    if (plan->room > 0 && c->nr == SYS_fallocate && !(c->arg[1] & ~FALLOC_FL_KEEP_SIZE) && c->arg[3] > plan->room)
        return -ENOSPC;
    if (plan->has_no_sync && is_sync(c))
        return 0;
    if (c->nr == SYS_unlinkat)
        (void)lstat(c->path, &old);
    call_trace(plan, is_sync(c) ? "sync" : "call", (unsigned long long)calls, 0, 0, NULL, 0);
    r = plan->skips_sync && is_sync(c) ? 0 : call_again(c);
    if (plan->mode != MODE_TRACE || r < 0)
        return r;
    if (c->kind == CALL_PATH)
        note_path(plan, c, old.st_ino, r);
    else
        note_fd(plan, c, r);
    return r;
}
