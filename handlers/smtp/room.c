/*
 * Sizes and quotas. Runs with agent.c; looks at the mailbox and asks the kernel.
 */
#include "handlers/smtp/room.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/fsquota.h"
#include "shared/base/macros.h"
#include "shared/gate/session.h"

static int check_size(const struct conf *conf, const char *path, uint64_t size)
{
    struct stat facts;
    uint64_t used = conf->mailbox_size > 0 && stat(path, &facts) == 0 ? (uint64_t)facts.st_size : 0;

    if (conf->mailbox_size == 0)
        return 0;
    if (size > conf->mailbox_size)
        return -EFBIG;
    return used >= conf->mailbox_size || used + size > conf->mailbox_size ? -EDQUOT : 0;
}

/* The hard limit: what write(2) would fail at. Where nobody tells there is room. The path is cut: its folder is asked.
 */
static int check_quota(char *path, uid_t uid, uint64_t size)
{
    char *slash = strrchr(path, '/');
    _cleanup_close_ int fd = -1;
    struct fsquota quota;

    if (slash)
        slash[slash == path] = '\0';
    fd = slash ? fsquota_open(path) : -ENOENT;

    if (fd < 0 || fsquota_ask(fd, uid, &quota) < 0 || quota.hard == 0)
        return 0;
    if (size > quota.hard)
        return -EFBIG;
    return quota.used >= quota.hard || quota.used + size > quota.hard ? -EDQUOT : 0;
}

int room_in_mailbox(const struct conf *conf, const struct rcpt_target *target, uint64_t size)
{
    _cleanup_free_ char *path = NULL;
    int e;

    if (session_inbox(conf, str_from(target->user), str_from(target->home), &path) < 0)
        return 0;
    e = check_size(conf, path, size);
    return e < 0 ? e : check_quota(path, target->uid, size);
}
