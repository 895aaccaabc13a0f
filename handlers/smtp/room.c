/*
 * Sizes and quotas. Runs with agent.c; looks at the mailbox and asks the kernel.
 */
#include "handlers/smtp/room.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/quota.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shared/gate/session.h"

#define QUOTA_BLOCK 1024 /* bytes in the units of the limits, quotactl(2) */

static int check_size(const struct conf *conf, uint64_t used, uint64_t size)
{
    if (conf->mailbox_size == 0)
        return 0;
    if (size > conf->mailbox_size)
        return -EFBIG;
    return used >= conf->mailbox_size || used + size > conf->mailbox_size ? -EDQUOT : 0;
}

/* The hard limit of blocks: what write(2) would fail at. No quota, a kernel or a network file system that does not
 * tell: there is room. */
static int check_quota(const char *path, uid_t uid, uint64_t size)
{
#ifdef SYS_quotactl_fd
    char *slash = strrchr(path, '/');
    _cleanup_free_ char *folder = strndup(path, slash && slash != path ? (size_t)(slash - path) : 1);
    _cleanup_close_ int fd = folder ? open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    struct dqblk quota = {0};
    uint64_t limit;

    if (fd < 0 || syscall(SYS_quotactl_fd, fd, QCMD(Q_GETQUOTA, USRQUOTA), uid, &quota) < 0)
        return 0;
    limit = quota.dqb_bhardlimit * QUOTA_BLOCK;
    if (limit == 0)
        return 0;
    if (size > limit)
        return -EFBIG;
    return quota.dqb_curspace >= limit || quota.dqb_curspace + size > limit ? -EDQUOT : 0;
#else
    (void)path;
    (void)uid;
    (void)size;
    return 0;
#endif
}

int room_in_mailbox(const struct conf *conf, const struct rcpt_target *target, uint64_t size)
{
    _cleanup_free_ char *path = NULL;
    struct stat facts;
    int e;

    if (session_spool_path(conf->spool, str_from(target->user), &path) < 0)
        return 0;
    e = check_size(conf, stat(path, &facts) == 0 ? (uint64_t)facts.st_size : 0, size);
    return e < 0 ? e : check_quota(path, target->uid, size);
}
