/*
 * The file system as a test wants it: stands in front of libc's fallocate().
 */
#ifndef TEST_MBOX_DISK_H
#define TEST_MBOX_DISK_H

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

static bool disk_refuses;       /* it cannot give blocks back */
static bool disk_dies;          /* the process dies where it would */
static unsigned disk_collapses; /* how often it did */
static off_t disk_collapsed;    /* how long the file was when it had */

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    bool is_collapse = (mode & FALLOC_FL_COLLAPSE_RANGE) != 0;
    int r;

    if (is_collapse && disk_dies)
        _exit(0);
    if (is_collapse && disk_refuses) {
        errno = EOPNOTSUPP;
        return -1;
    }
    r = (int)syscall(SYS_fallocate, fd, mode, offset, len);
    disk_collapses += is_collapse && r == 0;
    if (is_collapse && r == 0)
        disk_collapsed = lseek(fd, 0, SEEK_END);
    return r;
}

/* Is it one that can give blocks back? */
static inline bool disk_can_collapse(const char *folder)
{
    struct statfs fs;

    return statfs(folder, &fs) == 0 && fs.f_bsize == 4096 &&
           (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == 0x58465342 /* XFS */);
}

#endif
