/*
 * Files of the queue. Runs where queue.c runs; touches the folders it is given.
 */
#include "shared/queue/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "shared/base/clock.h"
#include "shared/base/macros.h"

#define NAME_MAX_TMP 80 /* an id and ".tmp" */
#define COPY_BLOCK   (64u << 10)

static void temporary_name(const char *name, char out[NAME_MAX_TMP])
{
    (void)snprintf(out, NAME_MAX_TMP, "%s.tmp", name);
}

int queue_file_write(int fd, struct str text)
{
    while (text.len > 0) {
        ssize_t n = write(fd, text.ptr, text.len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        text = str_sub(text, (size_t)n, text.len);
    }
    return 0;
}

/* ---- storing ---- */

int queue_file_copy(int from, int to, uint64_t size)
{
    _cleanup_free_ char *block = malloc(COPY_BLOCK);
    uint64_t at = 0;
    int e = block ? 0 : -ENOMEM;

    while (e == 0 && at < size) {
        ssize_t n = pread(from, block, size - at < COPY_BLOCK ? (size_t)(size - at) : COPY_BLOCK, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        e = queue_file_write(to, (struct str){block, (size_t)n});
        at += (uint64_t)n;
    }
    return e;
}

int queue_file_unnamed(int folder, int *ret_fd)
{
    _cleanup_buf_ struct buf name = BUF_INIT(NAME_MAX_TMP);
    int fd = openat(folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    int e;

    /* EISDIR: a kernel without it; EINVAL: some network file systems */
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        e = clock_unique(&(struct clock){0}, &name);
        if (e == 0)
            e = buf_add_str(&name, STR(".tmp"));
        if (e < 0)
            return e;
        fd = openat(folder, buf_cstr(&name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0)
            (void)unlinkat(folder, buf_cstr(&name), 0);
    }
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

/* Of a file with a name, or of another file system, there is nothing to link. */
static int store_copy(int folder, int file, const char *name)
{
    char temporary[NAME_MAX_TMP];
    _cleanup_close_ int fd = -1;
    int e;

    temporary_name(name, temporary);
    fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    e = queue_file_copy(file, fd, UINT64_MAX);
    if (e == 0 && fsync(fd) < 0)
        e = -errno;
    /* Not rename(), which would replace a message. */
    if (e == 0 && linkat(folder, temporary, folder, name, 0) < 0)
        e = -errno;
    (void)unlinkat(folder, temporary, 0);
    return e;
}

static int store_link(int folder, int file, const char *name)
{
    char path[32];

    if (fsync(file) < 0)
        return -errno;
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    return linkat(AT_FDCWD, path, folder, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* From memory, or another file system. */
static int store_over(int folder, int file, const char *name)
{
    _cleanup_close_ int fd = -1;
    int e = queue_file_unnamed(folder, &fd);

    if (e == 0)
        e = queue_file_copy(file, fd, UINT64_MAX);
    return e < 0 ? e : store_link(folder, fd, name);
}

int queue_file_store(int folder, int file, const char *name)
{
    struct stat facts;
    int e;

    if (fstat(file, &facts) < 0)
        return -errno;
    e = facts.st_nlink == 0 ? store_link(folder, file, name) : -EXDEV;
    if (e == -EXDEV)
        e = store_over(folder, file, name);
    if (e < 0 && e != -EEXIST && e != -ENOSPC && e != -EDQUOT && e != -EIO)
        e = store_copy(folder, file, name);
    if (e == 0 && fsync(folder) < 0) {
        e = -errno;
        (void)unlinkat(folder, name, 0);
    }
    return e;
}

/* ---- envelopes ---- */

static int write_temporary(int folder, const char *name, struct str text)
{
    /* What is there was left by a crash: who writes holds the lock, or made the id a moment ago. */
    _cleanup_close_ int fd = openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    int e;

    if (fd < 0)
        return -errno;
    e = queue_file_write(fd, text);
    return e == 0 && fsync(fd) < 0 ? -errno : e;
}

int queue_file_replace(int scratch, int folder, const char *name, struct str text, bool is_fresh)
{
    char temporary[NAME_MAX_TMP];
    int e;

    temporary_name(name, temporary);
    e = write_temporary(scratch, temporary, text);
    if (e == 0 && is_fresh && faccessat(folder, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        e = -EEXIST;
    if (e == 0 && renameat(scratch, temporary, folder, name) < 0)
        e = -errno;
    if (e < 0) {
        (void)unlinkat(scratch, temporary, 0);
        return e;
    }
    return fsync(folder) < 0 ? -errno : 0;
}

int queue_file_read(int folder, const char *name, struct buf *out)
{
    _cleanup_close_ int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat facts;
    int e = 0;

    if (fd < 0)
        return errno == ELOOP ? -EBADMSG : -errno;
    if (fstat(fd, &facts) < 0)
        return -errno;
    if (!S_ISREG(facts.st_mode) || (uint64_t)facts.st_size > out->max - out->len)
        return -EBADMSG;
    while (e == 0) {
        char block[4096];
        ssize_t n = read(fd, block, sizeof(block));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        e = buf_add(out, block, (size_t)n);
    }
    return e == -ENOBUFS ? -EBADMSG : e;
}

/* ---- locks ---- */

int queue_file_lock(int folder, const char *name, int *ret_fd)
{
    /* For writing: a lock wants that. Nothing is written. */
    _cleanup_close_ int fd = openat(folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat facts;

    if (fd < 0)
        return errno == ELOOP || errno == EISDIR ? -EPERM : -errno;
    if (fcntl(fd, F_OFD_SETLK, &whole) < 0)
        return errno == EACCES ? -EAGAIN : -errno;
    if (fstat(fd, &facts) < 0)
        return -errno;
    if (facts.st_nlink == 0)
        return -ENOENT;
    if (!S_ISREG(facts.st_mode) || facts.st_uid != geteuid())
        return -EPERM;
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* ---- cleaning ---- */

int queue_file_sweep(int folder, int64_t limit)
{
    _cleanup_close_ int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    struct stat facts;
    int count = 0;

    if (!dir)
        return -errno;
    (void)steal_fd(&fd);
    while ((entry = readdir(dir)))
        if (str_ends(str_from(entry->d_name), STR(".tmp")) &&
            fstatat(folder, entry->d_name, &facts, AT_SYMLINK_NOFOLLOW) == 0 && facts.st_ctime < limit &&
            unlinkat(folder, entry->d_name, 0) == 0)
            count++;
    (void)closedir(dir);
    return count;
}
