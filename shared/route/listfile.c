/*
 * Reading with a user's rights. Runs in monitors as root, which for the length of one call have the file system uid,
 * gid and groups of the user (and with that none of root's capabilities over files), or in sessions as the user.
 */
#include "shared/route/listfile.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/base/limits.h"

#define BLOCK (64u << 10)

static int read_all(int fd, struct buf *out)
{
    for (;;) {
        int e = buf_reserve(out, 1);
        size_t room = out->cap - out->len - 1;
        ssize_t n;

        if (e == 0 && room < BLOCK && out->max - out->len > room) {
            e = buf_reserve(out, out->max - out->len < BLOCK ? out->max - out->len : BLOCK);
            room = out->cap - out->len - 1;
        }
        if (e < 0)
            return e == -ENOBUFS ? -E2BIG : e;
        n = read(fd, out->data + out->len, room < out->max - out->len ? room : out->max - out->len);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        out->len += n > 0 ? (size_t)n : 0;
        out->data[out->len] = '\0';
    }
}

static int open_how(int folder, const char *path, uint64_t flags, uint64_t resolve)
{
    const struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve};

    return (int)syscall(SYS_openat2, folder, path, &how, sizeof(how));
}

/* Not through the links of /proc/self/fd: they lead to what this process has open, whoever may reach it by a name. */
static int open_named(const char *path)
{
    return open_how(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, RESOLVE_NO_MAGICLINKS);
}

static int read_file(const char *path, struct buf *out, struct stat *ret_facts)
{
    _cleanup_close_ int fd = open_named(path);
    struct stat facts;
    int e;

    if (fd < 0 || fstat(fd, &facts) < 0)
        return -errno;
    if (!S_ISREG(facts.st_mode))
        return -EINVAL;
    e = read_all(fd, out);
    if (e == 0 && ret_facts)
        *ret_facts = facts;
    return e;
}

int listfile_read(const char *path, const struct priv_user *user, struct buf *out, struct stat *ret_facts)
{
    gid_t groups[PRIV_GROUPS_MAX];
    int count, e;

    if (!user || !priv_is_root() || user->uid == 0)
        return read_file(path, out, ret_facts);
    count = getgroups(PRIV_GROUPS_MAX, groups);
    if (count < 0 || setgroups((size_t)user->group_count, user->groups) < 0)
        return -EPERM;
    (void)setfsgid(user->gid);
    (void)setfsuid(user->uid);
    /* They return the value before the call: asked again, they tell whether it worked. */
    e = (uid_t)setfsuid((uid_t)-1) == user->uid && (gid_t)setfsgid((gid_t)-1) == user->gid
            ? read_file(path, out, ret_facts)
            : -EPERM;
    (void)setfsuid(geteuid());
    (void)setfsgid(getegid());
    if ((uid_t)setfsuid((uid_t)-1) != geteuid() || (gid_t)setfsgid((gid_t)-1) != getegid() ||
        setgroups((size_t)count, groups) < 0)
        _exit(EX_OSERR); /* nothing good can come of a monitor with half of its rights */
    return e;
}

/* Could a user look for a name in that folder? */
static bool is_open_to(int folder, const struct priv_user *user)
{
    const mode_t all = S_IXUSR | S_IXGRP | S_IXOTH;
    struct stat facts;

    if (fstat(folder, &facts) < 0)
        return false;
    return facts.st_uid == user->uid ? (facts.st_mode & S_IXUSR) != 0 : (facts.st_mode & all) == all;
}

bool listfile_is_absent(const char *path, const struct priv_user *user)
{
    _cleanup_close_ int folder = -1, found = -1;
    char part[LIMIT_PATHNAME];
    size_t len = strlen(path);
    bool is_missing = false;

    if (path[0] != '/' || path[len - 1] == '/' || len >= sizeof(part))
        return false;
    memcpy(part, path, len + 1);
    while (folder < 0) { /* from the last folder up to the first that is there */
        char *slash = strrchr(part, '/');

        if (slash == NULL)
            return false;
        *slash = '\0';
        folder = open_how(AT_FDCWD, slash == part ? "/" : part, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
        if (folder < 0 && errno != ENOENT)
            return false;
        is_missing |= folder < 0;
    }
    if (!is_open_to(folder, user))
        return false;
    if (!is_missing)
        found = open_how(folder, strrchr(path, '/') + 1, O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS);
    return is_missing || (found < 0 && errno == ENOENT);
}

/* A link is looked at itself: for where it leads its owner answers. */
static bool is_kept(const char *path, uid_t owner)
{
    struct stat facts;

    if (lstat(path, &facts) < 0 || (facts.st_uid != 0 && facts.st_uid != owner))
        return false;
    return !S_ISDIR(facts.st_mode) || !(facts.st_mode & (S_IWGRP | S_IWOTH)) || (facts.st_mode & S_ISVTX);
}

bool listfile_is_kept(const char *path, uid_t owner)
{
    char part[LIMIT_PATHNAME];
    size_t i = 0;

    if (path[0] != '/' || strlen(path) >= sizeof(part))
        return false;
    do {
        do
            part[i] = path[i];
        while (path[++i] && path[i] != '/');
        part[i] = '\0';
        if (!is_kept(part, owner))
            return false;
    } while (path[i]);
    return true;
}
