/*
 * Preloaded into a program: a machine whose inotify is used up.
 */
#include <errno.h>
#include <sys/inotify.h>

__attribute__((visibility("default"))) int inotify_init1(int flags)
{
    (void)flags;
    errno = EMFILE;
    return -1;
}
