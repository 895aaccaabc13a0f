/*
 * A user's .forward. Runs in the monitor as root, or in `smtp-session -bs` as the invoking user; reads the file with
 * its user's rights.
 */
#include "shared/route/forward.h"

#include <errno.h>
#include <sys/stat.h>

#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/route/listfile.h"

/* A file that others may have written is as if it were theirs: it stays unread, and the mail where it is safe. */
static bool is_trustworthy(const struct stat *facts, const struct priv_user *user, const char *path)
{
    if ((facts->st_uid == user->uid || facts->st_uid == 0) && !(facts->st_mode & (S_IWGRP | S_IWOTH)))
        return true;
    LOG_EVENT(LOG_WARNING, "forward-ignored", LOG_FC("user", user->name), LOG_FC("file", path),
              LOG_FC("reason", "others can write to it, or own it"));
    return false;
}

static int read_one(const char *path, const struct priv_user *user, struct buf *out, struct stat *ret_facts)
{
    if (priv_is_root() && user->uid != 0 && listfile_is_absent(path, user))
        return -ENOENT;
    return listfile_read(path, user, out, ret_facts);
}

/* Reads "FILE+detail", then "FILE". 0, -ENOENT, or another errno. */
static int read_as(const struct conf *conf, const struct priv_user *user, struct str detail, struct buf *out)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_PATHNAME);
    struct stat facts;
    size_t len;
    int e = conf_expand(str_from(conf->forward), str_from(user->name), str_from(user->home), &path);

    if (e < 0 || path.len == 0)
        return -ENOENT;
    len = path.len;
    e = -ENOENT;
    if (detail.len > 0 && str_chr(detail, '/') < 0 && conf->recipient_delimiter[0] != '\0' &&
        buf_printf(&path, "%c%.*s", conf->recipient_delimiter[0], STR_ARG(detail)) == 0)
        e = read_one(buf_cstr(&path), user, out, &facts);
    if (e == -ENOENT || e == -ENAMETOOLONG) {
        buf_truncate(&path, len);
        e = read_one(buf_cstr(&path), user, out, &facts);
    }
    if (e == 0 && !is_trustworthy(&facts, user, buf_cstr(&path)))
        e = -ENOENT;
    return e == -ENOTDIR ? -ENOENT : e;
}

/* Most users have none. That can be seen without their groups, which may have to be asked of another machine: what only
 * a group may look at says that it is not permitted, not that it is not there. */
int forward_read(const struct conf *conf, const struct rcpt_target *t, struct str detail, struct buf *out,
                 struct priv_user *ret_user)
{
    const struct priv_user alone = {
        .name = t->user, .home = t->home, .uid = t->uid, .gid = t->gid, .groups = {t->gid}, .group_count = 1};
    int e = read_as(conf, &alone, detail, out);

    if (e == -ENOENT)
        return e;
    buf_clear(out);
    e = priv_user_find(str_from(t->user), ret_user);
    return e < 0 ? e : read_as(conf, ret_user, detail, out);
}
