/*
 * Places by kernel locks. Runs in the monitor, as root.
 */
#include "shared/gate/place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"

static int open_places(const struct conf *conf)
{
    _cleanup_close_ int folder = open(conf->runtime, O_PATH | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int fd = -1;
    struct stat st;

    if (folder < 0)
        return -errno;
    fd = openat(folder, PLACE_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    /* Whoever can open it can lock all of it. */
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0)
        return -EPERM;
    return steal_fd(&fd);
}

/* A lock may lie behind the end of the file, which stays empty. */
static int lock_byte(int fd, off_t at)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

    return fcntl(fd, F_OFD_SETLK, &l) == 0 ? 0 : errno == EACCES ? -EAGAIN : -errno;
}

int place_take(const struct conf *conf, uid_t uid, unsigned count, int *ret_fd)
{
    _cleanup_close_ int fd = open_places(conf);
    int r = fd < 0 ? fd : -EAGAIN;

    for (unsigned i = 0; i < count && r == -EAGAIN; i++)
        r = lock_byte(fd, (off_t)uid * count + i);
    if (r == 0)
        *ret_fd = steal_fd(&fd);
    return r;
}
