/*
 * The lock file by which `listen --stop` finds a running `listen`. It holds no pid: the kernel names the holder of the
 * lock, so a stale file can never point at a stranger's process.
 */
#ifndef LISTEN_LOCK_H
#define LISTEN_LOCK_H

/* Takes the lock for the life of this process. The fd is left in *ret_fd. -EAGAIN: another process holds it. */
int lock_take(const char *path, int *ret_fd);

/* Sends SIGTERM to the holder and waits until the lock is free, at most timeout_ms. -ENOENT: nobody holds it,
 * -ETIMEDOUT, or another errno. */
int lock_stop_holder(const char *path, int timeout_ms);

#endif
