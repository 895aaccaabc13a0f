/*
 * Room for getting out of a full disk or quota: a file without content that has its blocks already. Whoever opens a
 * mailbox in need may give half of it back, whoever removes messages the rest. Runs as the user; touches `reserve` in
 * the state folder.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/box.h"

/* A journal takes some 150 KB (small windows and all), the log a block; the half that is for opening mailboxes holds
 * the index records of 2000 messages. */
#define RESERVE_FREE ((off_t)256 << 10)
#define RESERVE_ALL  (2 * RESERVE_FREE)
#define RESERVE_RICH 16u /* so many times as much has to be left by the file system */

static int open_reserve(struct mbox_store *s, int flags, struct buf *path, int *ret_fd)
{
    int r = buf_printf(path, "%s/reserve", s->state), fd;

    if (r < 0)
        return r;
    fd = open(buf_cstr(path), O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0600);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

void store_keep_reserve(struct mbox_store *s)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_close_ int fd = -1;
    struct statvfs fs;
    struct stat st;

    if (s->parent != NULL || s->is_delivery || open_reserve(s, O_CREAT, &path, &fd) < 0)
        return;
    if (fstat(fd, &st) == 0 && st.st_blocks * 512 >= RESERVE_ALL)
        return;
    /* Without it everything works while there is room. */
    if (fstatvfs(fd, &fs) < 0 || fs.f_bavail < RESERVE_RICH * (uint64_t)RESERVE_ALL / fs.f_frsize ||
        fallocate(fd, 0, 0, RESERVE_ALL) < 0)
        (void)unlink(buf_cstr(&path));
}

bool store_use_reserve(struct mbox_store *s, int error, bool frees)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_close_ int fd = -1;
    struct stat st;

    if ((error != -ENOSPC && error != -EDQUOT) || s->state == NULL || s->parent != NULL ||
        open_reserve(s, 0, &path, &fd) < 0 || fstat(fd, &st) < 0)
        return false;
    if (!frees && st.st_size <= RESERVE_FREE)
        return false;
    if ((frees ? unlink(buf_cstr(&path)) : ftruncate(fd, RESERVE_FREE)) < 0)
        return false;
    close_fd(&fd);
    return file_sync_folder(buf_cstr(&path)) == 0; /* only then can the blocks be had */
}
