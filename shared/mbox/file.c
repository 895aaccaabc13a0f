/*
 * The mbox file itself: opened with every check, created, read and written whole. Runs as the user in sessions and
 * deliver; touches the mbox path and its folder only.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/io/frame_types.h"
#include "shared/mbox/box.h"
#include "shared/mbox/folders.h"

#define TICKS 2 /* seconds that file_tick() and file_settle() may have moved times ahead */

static int check_file(const struct mbox_store *s, const struct stat *st)
{
    return !S_ISREG(st->st_mode) || st->st_nlink != 1 || st->st_uid != s->owner ? -EPERM : 0;
}

int file_open(struct mbox_store *s, const char *path, bool *ret_writable, int *ret_fd)
{
    const int flags = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
    bool is_writable = true;
    int fd = open(path, O_RDWR | flags);
    struct stat st;
    int r;

    if (fd < 0 && (errno == EACCES || errno == EROFS || errno == EPERM)) {
        is_writable = false;
        fd = open(path, O_RDONLY | flags);
    }
    if (fd < 0)
        return errno == EISDIR || errno == ENXIO || errno == ENODEV ? -EPERM : -errno;
    if ((r = fstat(fd, &st) < 0 ? -errno : check_file(s, &st)) < 0) {
        close_fd(&fd);
        return r;
    }
    /* Shells, biff and mutt call mail new while the file was changed after it was read: deliveries are no readers. */
    if (s->is_delivery)
        (void)fcntl(fd, F_SETFL, O_NONBLOCK | O_NOATIME);
    *ret_writable = is_writable;
    *ret_fd = fd;
    return 0;
}

/* A spool that is not mounted must not be taken for an empty mailbox. */
static bool has_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *folder =
        slash == NULL || slash == path ? NULL : str_dup((struct str){path, (size_t)(slash - path)});

    return folder == NULL || access(folder, F_OK) == 0;
}

int box_reopen(struct box *b)
{
    struct stat st;
    bool is_writable;
    int fd, r;

    if (lstat(b->path, &st) < 0) {
        if (errno != ENOENT)
            return -errno;
        if (b->is_inbox && !has_folder(b->path))
            return -ENODEV;
        close_fd(&b->fd);
        b->facts = (struct stat){0};
        return 0;
    }
    if (b->fd >= 0) {
        if (fstat(b->fd, &b->facts) < 0)
            return -errno;
        if (st.st_dev == b->facts.st_dev && st.st_ino == b->facts.st_ino)
            return check_file(b->store, &b->facts);
    }
    if ((r = file_open(b->store, b->path, &is_writable, &fd)) < 0)
        return r;
    close_fd(&b->fd);
    b->fd = fd;
    b->is_writable = is_writable && b->store->parent == NULL;
    return fstat(b->fd, &b->facts) < 0 ? -errno : 0;
}

int box_create(struct box *b)
{
    int fd;
    int r;

    if ((r = box_reopen(b)) < 0 || b->fd >= 0)
        return r;
    if (!b->is_inbox && (r = folders_make_parents(b->store, b->path)) < 0)
        return r;
    fd = open(b->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, b->is_inbox ? 0660 : 0600);
    if (fd >= 0) {
        close_fd(&fd);
        b->is_created = true;
    } else if (errno == EACCES && b->is_inbox && b->store->keeper >= 0) {
        /* On a default Debian spool the user may not create the file: the keeper may. */
        if ((r = store_ask_keeper(b->store, FRAME_KEEPER_CREATE, b->store->lock_timeout * 1000 + 5000)) < 0)
            return r;
    } else if (errno != EEXIST) {
        return -errno;
    }
    if ((r = box_reopen(b)) < 0)
        return r;
    return b->fd >= 0 ? 0 : -ENOENT;
}

int file_sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *folder = slash == NULL   ? str_dup(STR("."))
                                  : slash == path ? str_dup(STR("/"))
                                                  : str_dup((struct str){path, (size_t)(slash - path)});
    _cleanup_close_ int fd = -1;

    if (folder == NULL)
        return -ENOMEM;
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES ? 0 : -errno; /* a folder that we may not read: whoever made the file has synced it */
    return fsync(fd) < 0 && errno != EINVAL && errno != EROFS ? -errno : 0;
}

static bool wants_tick(const struct box *b, const struct stat *st)
{
    return st->st_size == b->facts.st_size && st->st_mtim.tv_sec == b->facts.st_mtim.tv_sec;
}

void file_tick(struct box *b)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
    struct stat st;

    if (fstat(b->fd, &st) < 0 || !wants_tick(b, &st))
        return;
    times[1].tv_sec = st.st_mtim.tv_sec + 1;
    (void)futimens(b->fd, times);
}

bool file_is_before(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

/* New mail, though a file_settle() has moved the times on: now also for who compares whole seconds. False: it is so
 * already, or never will be: somebody has set the clock. */
static bool move_past(const struct timespec *atime, struct timespec *mtime)
{
    if (file_is_before(atime, mtime) || atime->tv_sec - mtime->tv_sec > TICKS)
        return false;
    *mtime = (struct timespec){.tv_sec = atime->tv_sec + 1};
    return true;
}

int file_settle(struct box *b, uint64_t size)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}}, mtime;
    struct stat st;
    bool is_ticked, is_moved, is_read;

    if (fstat(b->fd, &st) < 0)
        return -errno;
    b->has_new |= (uint64_t)st.st_size != size; /* it came meanwhile */
    is_ticked = wants_tick(b, &st);
    mtime = is_ticked ? (struct timespec){.tv_sec = st.st_mtim.tv_sec + 1} : st.st_mtim;
    is_moved = b->has_new && move_past(&st.st_atim, &mtime);
    is_read = !b->has_new && file_is_before(&st.st_atim, &mtime);
    b->facts = st;
    if (!is_ticked && !is_moved && !is_read)
        return 0;
    if (is_ticked || is_moved)
        times[1] = mtime;
    if (is_read) {
        times[0] = mtime;
        times[0].tv_nsec += is_ticked; /* relatime: at the same time the next read would put it back to now */
    }
    (void)futimens(b->fd, times);
    return fstat(b->fd, &b->facts) < 0 ? -errno : 0;
}

void file_renew(struct box *b)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
    struct stat st;

    if (b->facts.st_atim.tv_sec < time(NULL) || fstat(b->fd, &st) < 0)
        return;
    times[1] = st.st_mtim;
    if (move_past(&st.st_atim, &times[1]))
        (void)futimens(b->fd, times);
}

void file_peek(struct box *b, bool is_peek)
{
    if (b->fd >= 0 && is_peek != b->is_peek && !b->store->is_delivery)
        (void)fcntl(b->fd, F_SETFL, O_NONBLOCK | (is_peek ? O_NOATIME : 0));
    b->is_peek = b->fd >= 0 && is_peek;
}

int file_read(int fd, void *data, size_t len, uint64_t offset)
{
    char *p = data;

    while (len > 0) {
        ssize_t n = pread(fd, p, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ENODATA;
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int file_read_now(int fd, void *data, size_t len, uint64_t offset)
{
#ifdef RWF_NOWAIT
    struct iovec iov = {.iov_base = data, .iov_len = len};

    return preadv2(fd, &iov, 1, (off_t)offset, RWF_NOWAIT) == (ssize_t)len ? 0 : -EAGAIN;
#else
    (void)fd, (void)data, (void)len, (void)offset;
    return -EAGAIN;
#endif
}

int file_write(int fd, const void *data, size_t len, uint64_t offset)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int file_append(int fd, const void *data, size_t len, uint64_t *ret_at, size_t *ret_len)
{
    struct iovec all = {(void *)(uintptr_t)data, len};
    ssize_t n;
    off_t end;

    do {
        n = pwritev2(fd, &all, 1, -1, RWF_APPEND); /* -1: the place of the descriptor follows, and tells where it was */
    } while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n < 0 ? -errno : -EIO;
    if ((end = lseek(fd, 0, SEEK_CUR)) < 0)
        return -errno;
    *ret_at = (uint64_t)(end - n);
    *ret_len = (size_t)n;
    return 0;
}

int file_allocate(int fd, uint64_t offset, uint64_t len)
{
    int r;

    do {
        r = posix_fallocate(fd, (off_t)offset, (off_t)len);
    } while (r == EINTR);
    return -r;
}
