/*
 * Another program that knows none of our locks: comes in front of or behind a call of ours on a mailbox file. Stands in
 * front of libc's pread(), pwrite(), pwritev2(), posix_fallocate() and the syncs.
 */
#ifndef TEST_MBOX_OTHER_H
#define TEST_MBOX_OTHER_H

#include "tests/unit/mbox_util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static const char foreign[] = "From x@y Thu Jan  1 00:00:00 2015\nSubject: meanwhile\n\nmeanwhile\n\n";

/* When the other program appends: in front of call number `at` of these for the file `path`. */
static struct {
    const char *path;
    unsigned at;
    unsigned calls;
    bool is_done;
    bool in_writes;     /* also in front of a call that writes, else reads and syncs only */
    bool is_behind;     /* behind a call that writes instead, and in front of nothing */
    void (*does)(void); /* something else than that */
    bool fills_disk;    /* no append of ours succeeds any more */
    bool has_no_room;   /* nor can room be made for a journal */
    unsigned dies_at;   /* behind so many of our writes since, 0: never */
} other;

static bool is_named(int fd)
{
    struct stat there, named;

    return other.path != NULL && fstat(fd, &there) == 0 && stat(other.path, &named) == 0 &&
           there.st_ino == named.st_ino;
}

static void meanwhile(int fd, bool is_write)
{
    int out;

    if (other.path == NULL || other.is_done || (is_write ? !other.in_writes : other.is_behind) || !is_named(fd) ||
        ++other.calls < other.at)
        return;
    other.is_done = true;
    if (other.does != NULL) {
        other.does();
        return;
    }
    out = open(other.path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_true(out >= 0);
    assert_int_equal(write(out, foreign, sizeof(foreign) - 1), sizeof(foreign) - 1);
    assert_int_equal(close(out), 0);
}

ssize_t pread(int fd, void *data, size_t len, off_t offset)
{
    meanwhile(fd, false);
    return syscall(SYS_pread64, fd, data, len, offset);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    ssize_t n;

    if (!other.is_behind)
        meanwhile(fd, true);
    n = syscall(SYS_pwrite64, fd, data, len, offset);
    if (other.is_behind)
        meanwhile(fd, true);
    if (other.dies_at > 0 && is_named(fd) && other.is_done && --other.dies_at == 0)
        _exit(0);
    return n;
}

/* All appends are made with it. */
ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    ssize_t n;

    if (!other.is_behind)
        meanwhile(fd, true);
    if (other.fills_disk && other.is_done) {
        errno = ENOSPC;
        return -1;
    }
    n = syscall(SYS_pwritev2, fd, iov, count, offset, 0, flags);
    if (other.is_behind)
        meanwhile(fd, true);
    return n;
}

int posix_fallocate(int fd, off_t offset, off_t len)
{
    if (!other.is_behind)
        meanwhile(fd, true);
    if (other.has_no_room)
        return ENOSPC;
    return syscall(SYS_fallocate, fd, 0, offset, len) < 0 ? errno : 0;
}

int fdatasync(int fd)
{
    meanwhile(fd, false);
    return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    meanwhile(fd, false);
    return (int)syscall(SYS_fsync, fd);
}

#endif
