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
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/base/maker.h"

/* Where files have names from the beginning, and where there is no /proc: "0" is liblockfile's word for no process. */
static int make_named(const char *path, int *ret_fd)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

    if (fd < 0)
        return -errno;
    errno = 0;
    if (write(fd, "0\n", 2) != 2 && errno != ENOSPC && errno != EDQUOT) { /* an empty one does too */
        int r = errno > 0 ? -errno : -EIO;

        (void)unlink(path);
        return r;
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* *server: the time of the file server, or as it was. */
static int make(const char *path, int *ret_fd, time_t *server)
{
    _cleanup_close_ int fd = -1;
    struct stat st;
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX], mark[MAKER_TEXT], unnamed[32];
    size_t len;

    if (slash == NULL || slash == path || maker_text(mark, &len) < 0)
        return make_named(path, ret_fd); /* nobody could judge it */
    if (snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path), path) >= (int)sizeof(folder))
        return -ENAMETOOLONG;
    fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
    if (fd < 0)
        return errno == EISDIR || errno == EOPNOTSUPP || errno == ENOSPC || errno == EDQUOT ? make_named(path, ret_fd)
                                                                                            : -errno;
    if (fstat(fd, &st) == 0)
        *server = st.st_mtime;
    if (write(fd, mark, len) != (ssize_t)len)
        return make_named(path, ret_fd); /* a full disk may have room for a name */
    (void)snprintf(unnamed, sizeof(unnamed), "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, unnamed, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0)
        return errno == ENOENT ? make_named(path, ret_fd) : -errno;
    *ret_fd = steal_fd(&fd);
    return 0;
}

bool dotlock_is(int fd, const char *path)
{
    struct stat ours, named;

    return fd >= 0 && fstat(fd, &ours) == 0 && lstat(path, &named) == 0 && named.st_dev == ours.st_dev &&
           named.st_ino == ours.st_ino;
}

/* What a file that is touched now gets for a time: on a file server it is that of the server. Ours, where no file can
 * be made. */
static time_t server_time(const char *path)
{
    char temp[PATH_MAX];
    int n = snprintf(temp, sizeof(temp), "%s.%ld", path, (long)getpid());
    _cleanup_close_ int fd = -1;
    time_t now = time(NULL);
    struct stat st;

    if (n < 0 || (size_t)n >= sizeof(temp))
        return now;
    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return now;
    if (futimens(fd, NULL) == 0 && fstat(fd, &st) == 0)
        now = st.st_mtime;
    (void)unlink(temp);
    return now;
}

/* server: the server's time when make() did see it, else 0. Our own clock does not decide alone: it may be wrong. */
static bool is_stale(int fd, const char *path, time_t server)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return false;
    if (server == 0 && time(NULL) > st.st_mtime + MAKER_STALE)
        server = server_time(path);
    return server > st.st_mtime + MAKER_STALE;
}

/* Removes the dotlock if its maker died, or has forgotten it. Not all can be read: mutt's have no permissions. */
static bool break_dead(const char *path, time_t server)
{
    _cleanup_close_ int named = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool is_orphan = fd >= 0 && maker_is_gone(fd) && dotlock_is(fd, path);

    return named >= 0 && (is_orphan || is_stale(named, path, server)) && dotlock_is(named, path) && unlink(path) == 0;
}

int dotlock_make(const char *path, int *ret_fd)
{
    time_t server = 0;
    int r = make(path, ret_fd, &server);

    if (r == -EEXIST && break_dead(path, server))
        r = make(path, ret_fd, &server);
    return r == -EEXIST ? -EAGAIN : r;
}
