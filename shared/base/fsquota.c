/*
 * Quotas of file systems: see fsquota.h. The call that takes a path of the file system instead of its device has no
 * function in the C library.
 */
#include "shared/base/fsquota.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/quota.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shared/base/macros.h"

#define BLOCK 1024u /* bytes in the units of the limits, quotactl(2) */

int fsquota_open(const char *path)
{
    _cleanup_free_ char *folder = strdup(path);
    size_t len = folder ? strlen(folder) : 0;

    if (!folder)
        return -ENOMEM;
    while (len > 0) {
        int fd;

        folder[len] = '\0';
        fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
            return fd;
        if (errno != ENOENT && errno != ENOTDIR)
            return -errno;
        /* One level up. */
        while (len > 0 && folder[len - 1] != '/')
            len--;
        while (len > 1 && folder[len - 1] == '/')
            len--;
    }
    return -ENOENT;
}

int fsquota_ask(int fd, uid_t uid, struct fsquota *ret)
{
#ifdef SYS_quotactl_fd
    struct dqblk quota = {0};

    if (syscall(SYS_quotactl_fd, fd, QCMD(Q_GETQUOTA, USRQUOTA), uid, &quota) < 0 ||
        (quota.dqb_bhardlimit == 0 && quota.dqb_bsoftlimit == 0))
        return -ENOENT;
    *ret = (struct fsquota){
        .used = quota.dqb_curspace, .hard = quota.dqb_bhardlimit * BLOCK, .soft = quota.dqb_bsoftlimit * BLOCK};
    return 0;
#else
    (void)fd;
    (void)uid;
    (void)ret;
    return -ENOENT;
#endif
}
