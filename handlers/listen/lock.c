/*
 * The lock file of a detached `listen`. Classic fcntl locks on purpose: F_GETLK names the holder (open file description
 * locks do not), and children do not inherit them.
 */
#include "handlers/listen/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

#include "shared/base/clock.h"
#include "shared/base/macros.h"

#define STEP_MS 20

static int lock_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd < 0 ? -errno : fd;
}

int lock_take(const char *path, int *ret_fd)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    _cleanup_close_ int fd = lock_open(path, O_RDWR | O_CREAT);

    if (fd < 0)
        return fd;
    if (fcntl(fd, F_SETLK, &fl) < 0)
        return errno == EACCES ? -EAGAIN : -errno;
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* The pid of the holder, or 0. */
static int holder(int fd, pid_t *ret_pid)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_GETLK, &fl) < 0)
        return -errno;
    *ret_pid = fl.l_type == F_UNLCK ? 0 : fl.l_pid;
    return 0;
}

int lock_stop_holder(const char *path, int timeout_ms)
{
    _cleanup_close_ int fd = lock_open(path, O_RDWR);
    _cleanup_close_ int process = -1;
    int64_t end = clock_monotonic_ms() + timeout_ms;
    pid_t pid = 0, again = 0;
    int r;

    if (fd < 0)
        return fd;
    r = holder(fd, &pid);
    if (r < 0)
        return r;
    if (pid == 0)
        return -ENOENT;
    /* The pidfd pins the process; if it still holds the lock after that, it is the one meant. */
    process = (int)syscall(SYS_pidfd_open, pid, 0);
    if (process < 0)
        return -errno;
    r = holder(fd, &again);
    if (r < 0)
        return r;
    if (again != pid)
        return -ENOENT;
    if (syscall(SYS_pidfd_send_signal, process, SIGTERM, NULL, 0) < 0)
        return -errno;
    while (clock_monotonic_ms() < end) {
        r = holder(fd, &again);
        if (r < 0 || again != pid)
            return r;
        (void)poll(NULL, 0, STEP_MS);
    }
    return -ETIMEDOUT;
}
