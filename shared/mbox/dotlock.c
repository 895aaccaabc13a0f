/*
 * A dotlock that tells who made it. Runs as the user under the kernel lock of the file; touches NAME.lock beside it.
 * It is written before it has a name: whatever moment a process is killed at, there is a whole one or none.
 */
#include "shared/mbox/dotlock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/base/maker.h"

static int make(const char *path)
{
    _cleanup_close_ int fd = -1;
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX], mark[MAKER_TEXT], unnamed[32];
    size_t len;

    if (slash == NULL || slash == path || maker_text(mark, &len) < 0)
        return -EOPNOTSUPP; /* nobody could judge it */
    if (snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path), path) >= (int)sizeof(folder))
        return -ENAMETOOLONG;
    fd = open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0)
        return errno == EISDIR ? -EOPNOTSUPP : -errno;
    errno = 0;
    if (write(fd, mark, len) != (ssize_t)len)
        return errno > 0 ? -errno : -ENOSPC;
    (void)snprintf(unnamed, sizeof(unnamed), "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, unnamed, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0)
        return errno == ENOENT ? -EOPNOTSUPP : -errno;
    return 0;
}

/* Removes the dotlock if its maker died. */
static bool break_orphan(const char *path)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat open_one, named;

    return fd >= 0 && maker_is_gone(fd) && fstat(fd, &open_one) == 0 && lstat(path, &named) == 0 &&
           named.st_dev == open_one.st_dev && named.st_ino == open_one.st_ino && unlink(path) == 0;
}

int dotlock_make(const char *path)
{
    int r = make(path);

    return r == -EEXIST && break_orphan(path) ? make(path) : r;
}
