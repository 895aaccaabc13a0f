/*
 * Folders: listing, creating, deleting, renaming, subscribing. Runs as the user; touches the folders directory and the
 * sidecars in the state folder.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/folders.h"
#include "shared/mbox/journal.h"
#include "shared/mbox/names.h"

/* The lock goes last: until then whoever wants the state waits. */
static const char *const side_suffixes[] = {".index", ".cache", ".journal", ".state", ".lock"};

/* mkdir for the folders directory and the levels above a mailbox. */
int folders_make_parents(struct mbox_store *s, const char *path)
{
    _cleanup_free_ char *copy = str_dup(str_from(path));
    size_t base = strlen(s->folders);

    if (copy == NULL)
        return -ENOMEM;
    for (char *p = copy + 1; (p = strchr(p, '/')) != NULL; p++) {
        int r = 0;

        *p = '\0';
        if (mkdir(copy, 0700) == 0)
            r = file_sync_folder(copy);
        else if (errno != EEXIST && ((size_t)(p - copy) >= base || errno != EACCES))
            r = -errno;
        if (r < 0)
            return r;
        *p = '/';
    }
    return 0;
}

static bool is_folder(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Sidecars may be left of one that was deleted by hand. Whoever opened the new mailbox already goes on with them,
 * which is no harm: a failure here is none either. */
static void forget_old(struct mbox_store *s, struct str name)
{
    struct box *b;

    if (box_open(s, name, false, &b) < 0)
        return;
    if (b->side != NULL && box_lock(b, BOX_WRITE | BOX_STATE) == 0 && b->facts.st_size == 0)
        (void)folders_remove_side(b->side);
    box_free(b);
}

int mbox_create(struct mbox_store *s, struct str name)
{
    _cleanup_free_ char *canonical = NULL;
    _cleanup_free_ char *path = NULL;
    _cleanup_free_ char *side = NULL;
    struct stat st;
    int fd, r;

    if ((r = name_resolve(s, name, &canonical, &path, &side)) < 0)
        return r;
    if (name_is_inbox(name) || lstat(path, &st) == 0)
        return -EEXIST;
    if ((r = folders_make_parents(s, path)) < 0)
        return r;
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    r = fsync(fd) < 0 ? -errno : 0;
    close_fd(&fd);
    forget_old(s, name);
    return r == 0 ? file_sync_folder(path) : r;
}

int folders_remove_side(const char *side)
{
    for (size_t i = 0; i < ARRAY_SIZE(side_suffixes); i++) {
        _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
        int r = buf_printf(&path, "%s%s", side, side_suffixes[i]);

        if (r < 0)
            return r;
        if (unlink(buf_cstr(&path)) < 0 && errno != ENOENT)
            return -errno;
    }
    return 0;
}

/* What an interrupted change left half done is finished first, and the sidecars go when the file is durably gone: a
 * power cut shows the mailbox as it was, or none. */
static int remove_locked(struct box *b)
{
    int r = 0;

    if (b->fd >= 0 && journal_exists(b))
        r = journal_replay(b);
    if (r == 0 && b->fd >= 0 && unlink(b->path) < 0) /* one that is offered may have no file */
        r = -errno;
    if (r == 0 && b->fd >= 0)
        r = file_sync_folder(b->path);
    return r == 0 && b->side != NULL ? folders_remove_side(b->side) : r;
}

/* A mailbox with children stays as a directory only. */
int mbox_delete(struct mbox_store *s, struct str name)
{
    _cleanup_free_ char *canonical = NULL;
    _cleanup_free_ char *path = NULL;
    _cleanup_free_ char *side = NULL;
    _cleanup_buf_ struct buf children = BUF_INIT(LIMIT_CONF_VALUE * 8);
    struct box *b;
    int r;

    if ((r = name_resolve(s, name, &canonical, &path, &side)) < 0)
        return r;
    if (name_is_inbox(name))
        return -EPERM;
    if ((r = buf_printf(&children, "%s.sbd", path)) < 0)
        return r;
    if (is_folder(path))
        return rmdir(path) < 0 ? (errno == EEXIST ? -ENOTEMPTY : -errno) : 0;
    r = box_open(s, name, false, &b);
    if (r == -ENOENT && is_folder(buf_cstr(&children)))
        return rmdir(buf_cstr(&children)) < 0 ? (errno == EEXIST ? -ENOTEMPTY : -errno) : 0;
    if (r < 0)
        return r;
    /* Locked, so that nobody is in the middle of an append to it. */
    if ((r = box_lock(b, b->fd < 0 ? BOX_STATE : BOX_WRITE | BOX_STATE)) == 0) {
        r = remove_locked(b);
        box_unlock(b);
    }
    box_free(b);
    (void)rmdir(buf_cstr(&children)); /* when it is empty */
    return r;
}

int mbox_subscribe(struct mbox_store *s, struct str name, bool subscribed)
{
    _cleanup_buf_ struct buf canonical = BUF_INIT(LIMIT_MAILBOX_NAME);
    int r;

    if ((r = mbox_name_check(name)) < 0 || (r = name_canonical(name, &canonical)) < 0)
        return r;
    return subscriptions_change(s, buf_str(&canonical), subscribed);
}
