/*
 * Small language helpers used everywhere: cleanup attributes, array size, checked steals.
 */
#ifndef BASE_MACROS_H
#define BASE_MACROS_H

#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define _must_check_ __attribute__((warn_unused_result))
#define _noreturn_ __attribute__((noreturn))

/* Of a variable that is written as a whole next, a hundred thousand times in a row. */
#define _uninitialized_ __attribute__((uninitialized))

/* Calls FUNC(&variable) when the variable leaves its scope, on every path. */
#define _cleanup_(func) __attribute__((cleanup(func)))

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}

static inline void cleanup_close(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

#define _cleanup_free_ _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)

/* Hands an fd on: returns it and leaves -1 behind, so that _cleanup_close_ does nothing. */
static inline int steal_fd(int *fd)
{
    int r = *fd;

    *fd = -1;
    return r;
}

/* Closes an fd and marks it closed. A negative fd is fine. */
static inline void close_fd(int *fd)
{
    cleanup_close(fd);
    *fd = -1;
}

/* Hands a pointer on: evaluates to it and leaves NULL behind. */
#define steal_ptr(p)                                                                                                   \
    ({                                                                                                                 \
        __typeof__(p) stolen_ = (p);                                                                                   \
        (p) = NULL;                                                                                                    \
        stolen_;                                                                                                       \
    })

#endif
