/*
 * A dotlock in a folder that is already open. Runs in the keeper with the fsuid of the user.
 */
#include "shared/gate/dotlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/base/maker.h"
#include "shared/base/secret.h"

#define LOCK_MODE 0644

int dotlock_init(struct dotlock *l, int folder, const char *name)
{
    int n = 0;

    *l = (struct dotlock){.folder = folder, .fd = -1, .spare_fd = -1};
    n = snprintf(l->name, sizeof(l->name), "%s.lock", name);
    return n < 0 || (size_t)n >= sizeof(l->name) ? -ENAMETOOLONG : 0;
}

static void unique_name(uint64_t number, char *out, size_t size)
{
    (void)snprintf(out, size, DOTLOCK_SPARE "%016llx", (unsigned long long)number);
}

/* The unique file that is linked to the lock's name, open. Its times are the file server's clock. */
static int make_unique(struct dotlock *l, char *out, size_t size, int *ret_fd, struct stat *ret)
{
    _cleanup_close_ int fd = -1;
    char text[MAKER_TEXT] = "0\n";
    size_t len = 2;
    uint64_t number = 0;
    int r = secret_random(&number, sizeof(number));

    if (r < 0)
        return r;
    unique_name(number, out, size);
    fd = openat(l->folder, out, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, LOCK_MODE);
    if (fd < 0)
        return -errno;
    /* Zero is what liblockfile writes when it wants no process to be looked at. An empty file means the same, and has
     * to do on a full disk: that is where somebody wants to expunge. */
    (void)maker_text(text, &len);
    errno = 0;
    if ((write(fd, text, len) != (ssize_t)len && errno != 0 && errno != ENOSPC && errno != EDQUOT) ||
        fstat(fd, ret) < 0) {
        r = errno > 0 ? -errno : -EIO;
        (void)unlinkat(l->folder, out, 0);
        return r;
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* Removes a lock that nobody has touched for long. `now` is the time on the file server. */
static bool break_stale(const struct dotlock *l, time_t now)
{
    struct stat st;

    if (fstatat(l->folder, l->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT;
    return now > st.st_mtime + MAKER_STALE && unlinkat(l->folder, l->name, 0) == 0;
}

/* Removes a lock whose maker was killed. */
static bool break_orphan(const struct dotlock *l)
{
    _cleanup_close_ int fd = openat(l->folder, l->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat open_one, named;

    return fd >= 0 && maker_is_gone(fd) && fstat(fd, &open_one) == 0 &&
           fstatat(l->folder, l->name, &named, AT_SYMLINK_NOFOLLOW) == 0 && named.st_dev == open_one.st_dev &&
           named.st_ino == open_one.st_ino && unlinkat(l->folder, l->name, 0) == 0;
}

/* Over NFS link(2) may succeed and say that it failed: what counts is the number of links. */
static bool link_lock(const struct dotlock *l, const char *unique)
{
    struct stat st;

    if (linkat(l->folder, unique, l->folder, l->name, 0) < 0 && errno == EEXIST)
        return false;
    return fstatat(l->folder, unique, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_nlink == 2;
}

static bool is_named(const struct dotlock *l, int fd, const char *name)
{
    struct stat ours;
    struct stat there;

    return fd >= 0 && fstat(fd, &ours) == 0 && fstatat(l->folder, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           there.st_dev == ours.st_dev && there.st_ino == ours.st_ino;
}

/* Have both names the same file? */
static bool is_same(const struct dotlock *l, const char *a, const char *b)
{
    struct stat first;
    struct stat second;

    return fstatat(l->folder, a, &first, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstatat(l->folder, b, &second, AT_SYMLINK_NOFOLLOW) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

static void drop_spare(struct dotlock *l)
{
    if (is_named(l, l->fd >= 0 ? l->fd : l->spare_fd, l->spare))
        (void)unlinkat(l->folder, l->spare, 0);
    l->spare[0] = '\0';
    close_fd(&l->spare_fd);
}

/* The kept file becomes the lock, as fresh as a new one: what costs a file system is to make and to forget an inode for
 * each of many locks. -ENOENT: there is none that can be; one is made. */
static int take_spare(struct dotlock *l, struct stat *ret)
{
    int r = -ENOENT;

    if (l->spare[0] == '\0')
        return r;
    if (futimens(l->spare_fd, NULL) == 0)
        r = linkat(l->folder, l->spare, l->folder, l->name, 0) == 0 ? 0 : -errno;
    if ((r == 0 || r == -EEXIST) && is_named(l, l->spare_fd, l->name)) { /* NFS, see link_lock() */
        l->fd = steal_fd(&l->spare_fd);
        return 0;
    }
    if ((r == -EEXIST || (r == 0 && is_named(l, l->spare_fd, l->spare))) && fstat(l->spare_fd, ret) == 0)
        return -EAGAIN; /* that is whose lock it is now */
    if (r == 0 && is_same(l, l->name, l->spare)) /* somebody has put another file in its place: no lock of ours */
        (void)unlinkat(l->folder, l->name, 0);
    drop_spare(l);
    return -ENOENT;
}

static int try_spare(struct dotlock *l)
{
    struct stat st;
    int r = take_spare(l, &st);

    return r == -EAGAIN && l->spare[0] && (break_stale(l, st.st_mtime) || break_orphan(l)) ? take_spare(l, &st) : r;
}

int dotlock_try(struct dotlock *l)
{
    _cleanup_close_ int fd = -1;
    char unique[sizeof(l->spare)];
    struct stat st;
    bool is_linked = false;
    int r = 0;

    if (l->fd >= 0)
        return -EALREADY;
    r = try_spare(l);
    if (r != -ENOENT)
        return r;
    r = make_unique(l, unique, sizeof(unique), &fd, &st);
    if (r < 0)
        return r;
    is_linked = link_lock(l, unique) || ((break_stale(l, st.st_mtime) || break_orphan(l)) && link_lock(l, unique));
    if (is_linked && l->is_kept)
        memcpy(l->spare, unique, sizeof(unique));
    else
        (void)unlinkat(l->folder, unique, 0);
    if (!is_linked)
        return -EAGAIN;
    l->fd = steal_fd(&fd);
    return 0;
}

int dotlock_touch(struct dotlock *l)
{
    if (!is_named(l, l->fd, l->name))
        return -ESTALE;
    return futimens(l->fd, NULL) < 0 ? -errno : 0;
}

/* Whoever takes it for stale in this very moment loses his own: it would have to be untouched for five minutes. */
int dotlock_release(struct dotlock *l)
{
    int r = !is_named(l, l->fd, l->name) ? -ESTALE : unlinkat(l->folder, l->name, 0) < 0 ? -errno : 0;

    if (l->fd >= 0 && l->spare[0])
        l->spare_fd = steal_fd(&l->fd);
    close_fd(&l->fd);
    return r;
}

void dotlock_finish(struct dotlock *l)
{
    if (l->spare[0])
        drop_spare(l);
}
