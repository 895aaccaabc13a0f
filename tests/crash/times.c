/*
 * Stands in front of libc's stat functions. With CRASH_PLAIN_TIMES the time of the last change of the inode is that of
 * the contents: nobody can put the former back, and with it no index would ever fit a file that was put back to how it
 * was, or to how a power cut left it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/crash/interpose.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT int fstatat64(int fd, const char *restrict path, struct stat64 *restrict ret, int flags)
{
    long r = crash_syscall(SYS_newfstatat, fd, (long)path, (long)ret, flags, 0, 0);

    if (r < 0) {
        errno = (int)-r;
        return -1;
    }
    if (getenv("CRASH_PLAIN_TIMES") != NULL)
        ret->st_ctim = ret->st_mtim;
    return 0;
}

EXPORT int stat64(const char *restrict path, struct stat64 *restrict ret)
{
    return fstatat64(AT_FDCWD, path, ret, 0);
}

EXPORT int lstat64(const char *restrict path, struct stat64 *restrict ret)
{
    return fstatat64(AT_FDCWD, path, ret, AT_SYMLINK_NOFOLLOW);
}

EXPORT int fstat64(int fd, struct stat64 *ret)
{
    return fstatat64(fd, "", ret, AT_EMPTY_PATH);
}
