/*
 * What interpose.c (the trap) and calls.c (what a trapped call means) share.
 */
#ifndef TESTS_CRASH_INTERPOSE_H
#define TESTS_CRASH_INTERPOSE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TRACE_FD 900 /* where the trace file is kept open */

enum interpose_mode { MODE_KILL, MODE_TORN, MODE_FAIL, MODE_TRACE, MODE_CUT, MODE_STOP };

struct interpose_plan {
    char dir[PATH_MAX]; /* only calls on files below this folder count */
    size_t dir_len;
    enum interpose_mode mode;
    long stop_at; /* number of the call to stop at or to fail, from 1 */
    int fail_errno;
    uint32_t shutdown;    /* MODE_CUT: 0 all is flushed, 1 the journal is, 2 nothing is */
    long sticky;          /* 1: later calls that need space fail as well; 2: all but syncs */
    bool has_no_collapse; /* the file system cannot COLLAPSE_RANGE */
    long room;            /* fallocate of more bytes at once finds the disk full; 0: no matter how many */
    bool has_no_sync;     /* syncs are not made: what a store that forgets them would do */
    bool skips_sync;      /* syncs are counted and traced, and not made: who looks on cannot tell the difference */
};

enum call_kind { CALL_WRITE, CALL_PATH, CALL_OTHER };

struct call {
    long nr;
    long arg[6];
    enum call_kind kind;
    size_t len;   /* bytes of a write */
    off_t offset; /* of a write */
    char path[PATH_MAX];
    char path2[PATH_MAX];
    bool is_new; /* open: it makes the file */
};

/* Makes a system call from the one instruction that the filter lets through; the kernel's result (-errno). */
long crash_syscall(long nr, long a, long b, long c, long d, long e, long f);

/* Is it a call that changes something below the folder? Fills in kind, len and the paths. */
bool call_look(const struct interpose_plan *plan, struct call *c);

/* Does what the plan says at this call: stop, fail, or make the call and trace it. The kernel's result. */
long call_run(const struct interpose_plan *plan, struct call *c);

/* The call itself and nothing else. */
long call_again(const struct call *c);

/* The path behind an fd (AT_FDCWD: the working folder) into a buffer of PATH_MAX bytes. */
bool call_fd_path(int fd, char *path);
bool call_is_below(const struct interpose_plan *plan, const char *path);

/* One record of the trace: "OP INODE A B LENGTH", then LENGTH bytes on the next line. */
void call_trace(const struct interpose_plan *plan, const char *op, unsigned long long ino, long long a, long long b,
                const void *data, size_t len);

_Noreturn void call_exit(int status);

#endif
