/*
 * Accounts by name: the part of priv.h that asks the name service. Apart from the rest, so that a program without it
 * can be linked statically.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/gate/priv.h"

int priv_user_find(struct str name, struct priv_user *ret)
{
    struct priv_user u = {.group_count = PRIV_GROUPS_MAX};
    _cleanup_free_ char *c_name = NULL;
    const struct passwd *pw = NULL;

    if (name.len == 0 || name.len > LIMIT_USER || str_has_nul(name))
        return -EINVAL;
    c_name = str_dup(name);
    if (!c_name)
        return -ENOMEM;
    errno = 0;
    pw = getpwnam(c_name);
    if (!pw)
        return errno == 0 || errno == ESRCH ? -ENOENT : -errno;
    u.uid = pw->pw_uid;
    u.gid = pw->pw_gid;
    u.name = strdup(pw->pw_name);
    u.home = strdup(pw->pw_dir);
    if (!u.name || !u.home) {
        priv_user_finish(&u);
        return -ENOMEM;
    }
    if (getgrouplist(u.name, u.gid, u.groups, &u.group_count) < 0) {
        priv_user_finish(&u);
        return -E2BIG;
    }
    *ret = u;
    return 0;
}

int priv_account_named(const char *account, uid_t *ret_uid, gid_t *ret_gid)
{
    const struct passwd *pw = NULL;

    errno = 0;
    pw = getpwnam(account);
    if (!pw)
        return errno == 0 || errno == ESRCH ? -ENOENT : -errno;
    *ret_uid = pw->pw_uid;
    *ret_gid = pw->pw_gid;
    return 0;
}
