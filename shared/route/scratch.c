/*
 * The unnamed message file. Runs in the monitor as root, or in `smtp-session -bs` and sendmail as the invoking user;
 * touches the queue folder.
 */
#include "shared/route/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SCRATCH_MARGIN (1u << 20) /* bytes that stay free besides the message: its copy's header, others' needs */

/* For file systems without O_TMPFILE: made with a name, which goes at once. */
static int open_unlinked(const char *folder)
{
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/.pennypost-XXXXXX", folder);
    int fd;

    if (n < 0 || (size_t)n >= sizeof(path))
        return -ENAMETOOLONG;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    (void)unlink(path);
    return fd;
}

static int open_in(const char *folder)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0)
        return fd;
    /* EISDIR: a kernel without it; EINVAL: some network file systems */
    if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)
        return open_unlinked(folder);
    return -errno;
}

static const char *scratch_folder(void)
{
    const char *folder = secure_getenv("TMPDIR");

    return folder && folder[0] == '/' ? folder : "/var/tmp";
}

/* A file in memory is everybody's to write, and whoever is handed one to read finds it in /proc: a recipient's program
 * must not change what the others get. */
static int open_memory(unsigned flags)
{
    _cleanup_close_ int fd = memfd_create("message", MFD_CLOEXEC | flags);

    return fd < 0 || fchmod(fd, 0600) < 0 ? -errno : steal_fd(&fd);
}

int scratch_open(const struct conf *conf, int *ret_fd)
{
    int fd = open_in(conf->queue);

    /* No queue folder of ours: somebody runs it without an installation. A full disk is not that. */
    if (fd == -ENOENT || fd == -EACCES || fd == -EPERM || fd == -EROFS || fd == -ENOTDIR)
        fd = open_in(scratch_folder());
    if (fd == -ENOENT || fd == -EACCES || fd == -EPERM || fd == -EROFS || fd == -ENOTDIR)
        fd = open_memory(0);
    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3; where the system insists on it, nothing else is given */
#endif

static int write_all(int fd, struct str text)
{
    while (text.len > 0) {
        ssize_t n = write(fd, text.ptr, text.len);

        if (n < 0 && errno != EINTR)
            return -errno;
        text = str_sub(text, n < 0 ? 0 : (size_t)n, text.len);
    }
    return 0;
}

int scratch_text(const struct conf *conf, struct str text, int *ret_fd)
{
    _cleanup_close_ int fd = open_memory(MFD_NOEXEC_SEAL);
    int e = 0;

    if (fd == -EINVAL)
        fd = open_memory(0);
    if (fd < 0)
        e = scratch_open(conf, &fd);
    if (e == 0)
        e = write_all(fd, text);
    if (e == 0)
        *ret_fd = steal_fd(&fd);
    return e;
}

int scratch_reopen(int fd, int *ret_fd)
{
    char path[32];
    int copy;

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    copy = open(path, O_RDONLY | O_CLOEXEC);
    if (copy < 0)
        return -errno;
    *ret_fd = copy;
    return 0;
}

int scratch_has_room(const struct conf *conf, uint64_t size)
{
    struct statvfs facts;

    if (statvfs(conf->queue, &facts) < 0 && statvfs(scratch_folder(), &facts) < 0)
        return -errno;
    if (facts.f_frsize == 0)
        return -ENOSYS;
    return (size + SCRATCH_MARGIN) / facts.f_frsize >= facts.f_bavail ? -ENOSPC : 0;
}
