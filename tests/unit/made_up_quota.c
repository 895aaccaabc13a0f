/*
 * Preloaded into a program: a machine whose file systems keep quotas, 5000 bytes used of 10 KiB, 8 KiB for long.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/quota.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((visibility("default"))) long syscall(long number, ...)
{
    long (*next)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    long a[6];
    va_list ap;

    va_start(ap, number);
    for (unsigned i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    if (number != SYS_quotactl_fd)
        return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    *(struct dqblk *)a[3] = (struct dqblk){.dqb_curspace = 5000, .dqb_bhardlimit = 10, .dqb_bsoftlimit = 8};
    return 0;
}
