/*
 * Which accounts may log in: runs in auth and auth-sasl, as root; asks NSS.
 */
#include "handlers/auth/account.h"

#include <errno.h>
#include <pwd.h>
#include <shadow.h>
#include <time.h>

#include "shared/base/macros.h"
#include "shared/base/secret.h"

#define PASSWD_BUFFER   (64u << 10)
#define SECONDS_PER_DAY 86400
#define FOREVER_DAYS    99999 /* shadow(5): what "never" is written as */

int account_check(struct auth *a)
{
    _cleanup_free_ char *memory = malloc(PASSWD_BUFFER);
    struct passwd pw, *found = NULL;
    int r;

    if (!memory)
        return -ENOMEM;
    r = getpwnam_r(a->user, &pw, memory, PASSWD_BUFFER, &found);
    /* getpwnam(3): several errors mean nothing but "not found". */
    if (!found)
        return r == 0 || r == ENOENT || r == ESRCH || r == EBADF || r == EPERM ? -ENOENT : -r;
    if (pw.pw_uid == 0 || pw.pw_uid < a->conf->min_uid)
        return -EPERM;
    return 0;
}

int account_find(struct auth *a)
{
    const struct priv_user *u = &a->account;
    int r;

    priv_user_finish(&a->account);
    r = priv_user_find(str_from(a->user), &a->account);
    if (r < 0)
        return r;
    return u->uid == 0 || u->gid == 0 || (priv_is_root() && u->uid < a->conf->min_uid) ? -EPERM : 0;
}

bool account_is_expired(const struct auth *a)
{
    _cleanup_free_ char *memory = malloc(PASSWD_BUFFER);
    long today = (long)(time(NULL) / SECONDS_PER_DAY);
    struct spwd sp, *found = NULL;
    bool is_expired;

    if (!memory || getspnam_r(a->user, &sp, memory, PASSWD_BUFFER, &found) != 0 || !found)
        return false;
    /* shadow(5): -1 is an empty field; a password is of no use any more sp_inact days after its maximal age. */
    is_expired = (sp.sp_expire > 0 && today >= sp.sp_expire) ||
                 (sp.sp_max >= 0 && sp.sp_inact >= 0 && sp.sp_lstchg > 0 && sp.sp_max < FOREVER_DAYS &&
                  today > sp.sp_lstchg + sp.sp_max + sp.sp_inact);
    secret_wipe(memory, PASSWD_BUFFER);
    return is_expired;
}
