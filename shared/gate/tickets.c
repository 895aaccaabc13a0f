/*
 * Session ticket keys. Runs in the monitor, as root; the keys themselves are used in T only.
 */
#include "shared/gate/tickets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"

/* Ours alone, and a whole number of keys. Anybody else's file is as good as none. */
static bool is_sound(const struct stat *st)
{
    return S_ISREG(st->st_mode) && st->st_uid == geteuid() && (st->st_mode & 077) == 0 && st->st_size >= TICKETS_KEY &&
           st->st_size <= TICKETS_KEYS * TICKETS_KEY && st->st_size % TICKETS_KEY == 0;
}

static int open_sound(int folder, struct stat *ret_st)
{
    _cleanup_close_ int fd = openat(folder, TICKETS_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0 || fstat(fd, ret_st) < 0)
        return -errno;
    return is_sound(ret_st) ? steal_fd(&fd) : -EINVAL;
}

/* A new file with a new key before the old ones takes the place of the old file. Of two monitors that do so at the same
 * time one wins; a ticket under the other's key costs one full handshake. */
static int rotate(int folder, int old)
{
    unsigned char keys[TICKETS_KEYS * TICKETS_KEY];
    char name[64];
    ssize_t kept = old >= 0 ? pread(old, keys + TICKETS_KEY, sizeof(keys) - TICKETS_KEY, 0) : 0;
    size_t len = TICKETS_KEY + (kept > 0 ? (size_t)kept : 0);
    _cleanup_close_ int fd = -1;
    int r = secret_random(keys, TICKETS_KEY);

    if (r < 0)
        return r;
    (void)snprintf(name, sizeof(name), TICKETS_FILE ".%ld", (long)getpid());
    (void)unlinkat(folder, name, 0);
    fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        r = -errno;
    else if (write(fd, keys, len) != (ssize_t)len || renameat(folder, name, folder, TICKETS_FILE) < 0) {
        r = errno ? -errno : -ENOSPC;
        (void)unlinkat(folder, name, 0);
    }
    secret_wipe(keys, sizeof(keys));
    return r;
}

int tickets_open(const struct conf *conf, int *ret_fd)
{
    _cleanup_close_ int folder = open(conf->runtime, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int fd = -1;
    struct stat st;
    time_t age;
    int r;

    if (folder < 0)
        return -errno;
    fd = open_sound(folder, &st);
    age = fd >= 0 ? time(NULL) - st.st_mtime : 0;
    /* A clock that was set back makes a key from the future, which would last too long. */
    if (fd < 0 || age < 0 || age >= TICKETS_LIFETIME) {
        r = rotate(folder, fd);
        if (r < 0)
            return r;
        close_fd(&fd);
        fd = open_sound(folder, &st);
    }
    if (fd < 0)
        return fd;
    *ret_fd = steal_fd(&fd);
    return 0;
}
