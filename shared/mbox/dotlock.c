/*
 * A dotlock that tells who made it. Runs as the user under the kernel lock of the file; touches NAME.lock beside it.
 * It is written before it has a name: whatever moment a process is killed at, there is a whole one or none.
 */
#include "shared/mbox/dotlock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"

#define MARK     "0\npennypost %016llx %d\n"
#define MARK_MAX 64

static int make(const char *path, uint64_t boot)
{
    _cleanup_close_ int fd = -1;
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX], mark[MARK_MAX], unnamed[32];
    int len;

    if (boot == 0 || slash == NULL || slash == path)
        return -EOPNOTSUPP; /* nobody could judge it */
    if (snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path), path) >= (int)sizeof(folder))
        return -ENAMETOOLONG;
    fd = open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0)
        return errno == EISDIR ? -EOPNOTSUPP : -errno;
    len = snprintf(mark, sizeof(mark), MARK, (unsigned long long)boot, (int)getpid());
    errno = 0;
    if (write(fd, mark, (size_t)len) != len)
        return errno > 0 ? -errno : -ENOSPC;
    (void)snprintf(unnamed, sizeof(unnamed), "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, unnamed, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0)
        return errno == ENOENT ? -EOPNOTSUPP : -errno;
    return 0;
}

/* Is this what make() wrote in a process of this boot that is gone? */
static bool is_orphan(const char *text, uint64_t boot)
{
    char mark[MARK_MAX];
    const char *number = strrchr(text, ' ');
    long pid = number != NULL ? strtol(number + 1, NULL, 10) : 0;

    if (pid <= 0 || pid > INT_MAX)
        return false;
    (void)snprintf(mark, sizeof(mark), MARK, (unsigned long long)boot, (int)pid);
    return strcmp(text, mark) == 0 && kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

/* Removes the dotlock if its maker died. */
static bool break_orphan(const char *path, uint64_t boot)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    char text[MARK_MAX];
    struct stat open_one, named;
    ssize_t n;

    if (fd < 0 || fstat(fd, &open_one) < 0 || !S_ISREG(open_one.st_mode))
        return false;
    n = pread(fd, text, sizeof(text) - 1, 0);
    if (n <= 0 || memchr(text, 0, (size_t)n) != NULL)
        return false;
    text[n] = '\0';
    return is_orphan(text, boot) && lstat(path, &named) == 0 && named.st_dev == open_one.st_dev &&
           named.st_ino == open_one.st_ino && unlink(path) == 0;
}

int dotlock_make(const char *path, uint64_t boot)
{
    int r = make(path, boot);

    return r == -EEXIST && break_orphan(path, boot) ? make(path, boot) : r;
}
