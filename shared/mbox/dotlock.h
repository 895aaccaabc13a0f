/*
 * A dotlock that tells who made it (shared/base/maker.h). Internal to shared/mbox.
 *
 * Where the folder may be written in, this makes it without liblockfile, which several programs at once may lead to
 * remove a live one: it takes a lock that has gone between two of its calls for a stale one, and removes the next.
 */
#ifndef MBOX_DOTLOCK_H
#define MBOX_DOTLOCK_H

#include <stdbool.h>

/*
 * One try to make the dotlock `path`. Ask for it only while holding the kernel lock of the file: one that was made so
 * in this boot, in a process that is gone, is broken, and so is one that nobody has touched for five minutes. 0 and
 * the lock, open (it is yours to close, after the lock is removed: as long as it is open no other has its inode
 * number); -EAGAIN: somebody has it; -EACCES, -EPERM, -EROFS: not in this folder; -ENOSPC, ...
 */
int dotlock_make(const char *path, int *ret_fd);

/* Is the dotlock there still the one that is open as fd? */
bool dotlock_is(int fd, const char *path);

#endif
