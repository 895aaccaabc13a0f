/*
 * The quota that a file system keeps for a user (quotactl(2)), as the kernel tells it to that user.
 */
#ifndef BASE_FSQUOTA_H
#define BASE_FSQUOTA_H

#include <stdint.h>
#include <sys/types.h>

struct fsquota {
    uint64_t used; /* bytes, all of the user's files there */
    uint64_t hard; /* where write(2) fails, 0: no such limit */
    uint64_t soft; /* where it fails once the time of grace is over, 0: no such limit */
};

/* Opens the folder `path`, or the nearest above it that is there, for fsquota_ask() and fstat(): an fd that cannot be
 * read. -ENOENT: the path is relative and nothing of it is there; other errno. */
int fsquota_open(const char *path);

/* What holds for this user on the file system of that fd. -ENOENT: no limit, or a kernel or a network file system that
 * does not tell. */
int fsquota_ask(int fd, uid_t uid, struct fsquota *ret);

#endif
