/*
 * The dotlock of a spool file, as liblockfile makes it: a unique file linked to NAME.lock, safe over NFS. Its content
 * names its maker to ourselves only (shared/base/maker.h); it is kept fresh while held and is stale after five minutes,
 * for us at once when its maker was killed.
 * Ask for it only while holding the kernel lock of the file (or when there is no file yet): such a dotlock is broken.
 */
#ifndef GATE_DOTLOCK_H
#define GATE_DOTLOCK_H

#include <stdbool.h>

#define DOTLOCK_SPARE   ".lk" /* begins the name of a file that is no lock yet, or not now */
#define DOTLOCK_REFRESH 60    /* seconds between two touches of a lock that is held */

struct dotlock {
    int folder;     /* directory fd of the spool, borrowed */
    char name[300]; /* "bob.lock" */
    int fd;         /* of the lock that we hold, or -1: while it is open no other file can have its inode */
    bool is_kept;   /* set by who takes it often: the file stays, under a name of its own, and is linked again: */
    char spare[32]; /* "": there is none */
    int spare_fd;   /* while the lock is not held, or -1 */
};

/* The lock of file `name` in the folder. -ENAMETOOLONG. */
int dotlock_init(struct dotlock *l, int folder, const char *name);

/* One try. 0; -EAGAIN: somebody else holds it; -EACCES, -ENOSPC, ... */
int dotlock_try(struct dotlock *l);

/* Sets its time to now. -ESTALE: it is not ours any more. */
int dotlock_touch(struct dotlock *l);

/* Removes it if it is still ours. 0; -ESTALE: it was not. */
int dotlock_release(struct dotlock *l);

/* Removes what was kept. A lock that is held stays. */
void dotlock_finish(struct dotlock *l);

#endif
