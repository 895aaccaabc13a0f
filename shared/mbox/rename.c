/*
 * RENAME: the file, its directory of children, and the sidecars of all of them. Runs as the user.
 *
 * All of these mailboxes are locked, so that nobody is in the middle of writing to one, and what an interrupted change
 * left half done in them is finished first: its journal stays behind.
 *
 * The sidecars get their new names as second links first and lose the old ones last: whatever is interrupted, each
 * mailbox that exists finds its state.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/folders.h"
#include "shared/mbox/journal.h"
#include "shared/mbox/names.h"
#include "shared/mbox/view.h"

static const char *const moved_suffixes[] = {".state", ".index", ".cache"};

void folders_forget_links(const char *side)
{
    for (size_t i = 0; i < ARRAY_SIZE(moved_suffixes); i++) {
        _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);

        if (buf_printf(&path, "%s%s", side, moved_suffixes[i]) == 0)
            (void)unlink(buf_cstr(&path));
    }
}

struct rename_job {
    struct mbox_store *s;
    struct str from;
    struct str to;
    struct names children;  /* whole old names, the mailbox itself too */
    struct box_want *boxes; /* those of them that can be opened */
    size_t box_count;
};

static int gather_child(void *context, struct str name, unsigned flags)
{
    struct rename_job *job = context;

    if (flags & (MBOX_ENTRY_NOSELECT | MBOX_ENTRY_MISSING))
        return 0;
    if (str_eq(name, job->from) ||
        (str_starts(name, job->from) && name.len > job->from.len && name.ptr[job->from.len] == '/'))
        return names_add(&job->children, name);
    return 0;
}

static int side_of(struct rename_job *job, struct str name, const char *suffix, struct buf *out)
{
    int r = name_side(job->s, name, out);

    return r == 0 ? buf_add_str(out, str_from(suffix)) : r;
}

static bool is_same_file(const char *a, const char *b)
{
    struct stat x, y;

    return lstat(a, &x) == 0 && lstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Gives the sidecars of a mailbox their second names; or takes them away again, where that name is theirs. */
static int link_side(struct rename_job *job, struct str old_name, bool is_undone)
{
    _cleanup_buf_ struct buf new_name = BUF_INIT(LIMIT_MAILBOX_NAME * 2);
    int r;

    if ((r = buf_add_str(&new_name, job->to)) < 0 ||
        (r = buf_add_str(&new_name, str_sub(old_name, job->from.len, old_name.len))) < 0 ||
        (r = mbox_name_check(buf_str(&new_name))) < 0)
        return r;
    for (size_t i = 0; i < ARRAY_SIZE(moved_suffixes); i++) {
        _cleanup_buf_ struct buf from = BUF_INIT(LIMIT_CONF_VALUE * 8);
        _cleanup_buf_ struct buf to = BUF_INIT(LIMIT_CONF_VALUE * 8);

        if ((r = side_of(job, old_name, moved_suffixes[i], &from)) < 0 ||
            (r = side_of(job, buf_str(&new_name), moved_suffixes[i], &to)) < 0)
            return r;
        if (is_undone && !is_same_file(buf_cstr(&from), buf_cstr(&to)))
            continue;
        if (unlink(buf_cstr(&to)) < 0 && errno != ENOENT)
            return -errno;
        if (!is_undone && link(buf_cstr(&from), buf_cstr(&to)) < 0 && errno != ENOENT)
            return -errno;
    }
    return 0;
}

static int sync_state(struct mbox_store *s)
{
    _cleanup_close_ int fd = open(s->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static bool is_folder(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* A file system that cannot see to it that nothing is replaced (NFS): the place is taken by an empty mailbox, and under
 * the locks of that it is still empty, so that no mail can go. A folder replaces none but an empty one. */
static int move_over(struct rename_job *job, const char *from, const char *to)
{
    struct box *b;
    int r;

    if (is_folder(from))
        return rename(from, to) < 0 ? errno == ENOTEMPTY ? -EEXIST : -errno : 0;
    if (access(from, F_OK) < 0)
        return -errno;
    if ((r = box_open(job->s, job->to, true, &b)) < 0)
        return r;
    r = box_lock_all(&(struct box_want){.b = b, .kinds = BOX_WRITE}, 1, 0); /* not while others are held */
    if (r == 0 && b->facts.st_size > 0)
        r = -EEXIST;
    if (r == 0 && rename(from, to) < 0)
        r = -errno;
    box_free(b);
    return r;
}

static int move_file(struct rename_job *job, const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    return errno == EINVAL || errno == ENOSYS ? move_over(job, from, to) : -errno;
}

static void move_back(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) < 0 && (errno == EINVAL || errno == ENOSYS) &&
        access(to, F_OK) < 0)
        (void)rename(from, to);
}

/* The dotlocks of children have moved with their folder. */
static int follow(struct rename_job *job, struct str from, struct str to)
{
    for (size_t i = 0; i < job->box_count; i++) {
        struct box *b = job->boxes[i].b;
        struct str old = str_from(b->path);
        _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
        char *copy;
        int r;

        if (!str_starts(old, from) || old.len == from.len || old.ptr[from.len] != '/')
            continue;
        if ((r = buf_add_str(&path, to)) < 0 || (r = buf_add_str(&path, str_sub(old, from.len, old.len))) < 0)
            return r;
        if ((copy = str_dup(buf_str(&path))) == NULL)
            return -ENOMEM;
        free(b->path);
        b->path = copy;
    }
    return 0;
}

/* Is there room for the children? What is below the new name has sidecars of its own, and a plain folder would hide it.
 */
static int clear_below(const char *from, const char *to)
{
    _cleanup_buf_ struct buf from_below = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_buf_ struct buf to_below = BUF_INIT(LIMIT_CONF_VALUE * 8);
    int r;

    if ((r = buf_printf(&from_below, "%s.sbd", from)) < 0 || (r = buf_printf(&to_below, "%s.sbd", to)) < 0)
        return r;
    if ((is_folder(from) || access(buf_cstr(&from_below), F_OK) == 0) && rmdir(buf_cstr(&to_below)) < 0 &&
        errno != ENOENT)
        return errno == ENOTEMPTY ? -EEXIST : -errno; /* an empty one is left of a mailbox that was */
    return 0;
}

/* The file and the directory of children, both or none. */
static int move_files(struct rename_job *job, const char *from, const char *to)
{
    _cleanup_buf_ struct buf from_below = BUF_INIT(LIMIT_CONF_VALUE * 8);
    _cleanup_buf_ struct buf to_below = BUF_INIT(LIMIT_CONF_VALUE * 8);
    bool is_moved;
    int r;

    if ((r = buf_printf(&from_below, "%s.sbd", from)) < 0 || (r = buf_printf(&to_below, "%s.sbd", to)) < 0)
        return r;
    r = move_file(job, from, to);
    if (r < 0 && r != -ENOENT)
        return r;
    is_moved = r == 0;
    r = move_file(job, buf_cstr(&from_below), buf_cstr(&to_below));
    if (r < 0 && r != -ENOENT) {
        if (is_moved)
            move_back(to, from);
        return r;
    }
    r = follow(job, str_from(from), str_from(to));
    return r == 0 ? follow(job, buf_str(&from_below), buf_str(&to_below)) : r;
}

static int link_all(struct rename_job *job)
{
    int r = 0;

    if (job->s->state == NULL)
        return 0;
    for (size_t i = 0; r == 0 && i < job->children.count; i++)
        r = link_side(job, str_from(job->children.names[i]), false);
    if (r == 0)
        r = sync_state(job->s);
    return r == -ENOENT ? 0 : r;
}

/* Mailboxes that are where they were must not share what is kept about them with others that come to be at the new
 * names. */
static void unlink_all(struct rename_job *job)
{
    for (size_t i = 0; job->s->state != NULL && i < job->children.count; i++) {
        _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
        struct str name = str_from(job->children.names[i]);

        if (name_path(job->s, name, &path) == 0 && access(buf_cstr(&path), F_OK) == 0)
            (void)link_side(job, name, true);
    }
}

static int move_all(struct rename_job *job, const char *from, const char *to)
{
    int r;

    if ((r = clear_below(from, to)) < 0)
        return r;
    if ((r = link_all(job)) < 0 || (r = move_files(job, from, to)) < 0) {
        unlink_all(job);
        return r;
    }
    if ((r = file_sync_folder(to)) < 0 || (r = file_sync_folder(from)) < 0)
        return r;
    for (size_t i = 0; job->s->state != NULL && i < job->children.count; i++) {
        _cleanup_buf_ struct buf side = BUF_INIT(LIMIT_CONF_VALUE * 8);

        if ((r = name_side(job->s, str_from(job->children.names[i]), &side)) < 0 ||
            (r = folders_remove_side(buf_cstr(&side))) < 0)
            return r;
    }
    return 0;
}

/* Who looks at the new name before there is a file must not find the second names of our sidecars: he would write down
 * that all messages are gone. That can be only where a mailbox is offered. */
static int open_offered(struct rename_job *job)
{
    struct box *b;
    int r;

    if (job->s->state == NULL || !store_may_be_missing(job->s, job->to))
        return 0;
    if ((r = box_open(job->s, job->to, false, &b)) < 0)
        return r;
    job->boxes[job->box_count++] = (struct box_want){.b = b, .kinds = BOX_STATE};
    return 0;
}

/* One that cannot be opened as a mailbox is nobody's to write to. */
static int open_boxes(struct rename_job *job)
{
    job->boxes = calloc(job->children.count + 1, sizeof(*job->boxes));
    if (job->boxes == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < job->children.count; i++) {
        struct box *b;
        int r = box_open(job->s, str_from(job->children.names[i]), false, &b);

        if (r == -ENOENT || r == -EPERM)
            continue;
        if (r < 0)
            return r;
        job->boxes[job->box_count++] = (struct box_want){.b = b,
                                                         .kinds = BOX_STATE | (b->fd < 0        ? 0u
                                                                               : b->is_writable ? BOX_WRITE
                                                                                                : BOX_READ)};
    }
    return open_offered(job);
}

static void free_boxes(struct rename_job *job)
{
    for (size_t i = 0; i < job->box_count; i++)
        box_free(job->boxes[i].b);
    free(job->boxes);
}

static int replay_all(struct rename_job *job)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < job->box_count; i++)
        if (journal_exists(job->boxes[i].b))
            r = job->boxes[i].kinds & BOX_WRITE ? journal_replay(job->boxes[i].b) : -EACCES;
    return r;
}

static int rename_locked(struct rename_job *job, const char *from, const char *to)
{
    int r;

    if (job->children.count == 0)
        return -ENOENT;
    if ((r = folders_make_parents(job->s, to)) == 0 && (r = open_boxes(job)) == 0 &&
        (r = box_lock_all(job->boxes, job->box_count, job->s->lock_timeout)) == 0 && (r = replay_all(job)) == 0)
        r = move_all(job, from, to);
    free_boxes(job);
    return r;
}

/* RFC 9051 6.3.6: the messages go, INBOX stays. */
static int rename_inbox(struct mbox_store *s, struct str to)
{
    _cleanup_numset_ struct numset all = NUMSET_INIT;
    struct mbox *v;
    int r;

    if ((r = mbox_create(s, to)) < 0 || (r = mbox_open(s, STR("INBOX"), 0, &v)) < 0)
        return r;
    r = numset_add(&all, 1, UINT32_MAX);
    if (r == 0)
        r = mbox_copy(v, &all, to, true, NULL, NULL, NULL);
    (void)mbox_close(v);
    return r;
}

int mbox_rename(struct mbox_store *s, struct str from, struct str to)
{
    struct rename_job job = {.s = s};
    _cleanup_free_ char *canonical_from = NULL;
    _cleanup_free_ char *path_from = NULL;
    _cleanup_free_ char *side_from = NULL;
    _cleanup_free_ char *canonical = NULL;
    _cleanup_free_ char *path = NULL;
    _cleanup_free_ char *side = NULL;
    struct stat st;
    int r;

    if ((r = name_resolve(s, from, &canonical_from, &path_from, &side_from)) < 0 ||
        (r = name_resolve(s, to, &canonical, &path, &side)) < 0)
        return r;
    job.from = from = str_from(canonical_from);
    job.to = to = str_from(canonical);
    if (name_is_inbox(to) || lstat(path, &st) == 0)
        return -EEXIST;
    if (name_is_inbox(from))
        return rename_inbox(s, to);
    if (str_starts(to, from) && to.len > from.len && to.ptr[from.len] == '/')
        return -EINVAL; /* into itself */
    r = mbox_list(s, gather_child, &job);
    if (r == 0)
        r = rename_locked(&job, path_from, path);
    names_finish(&job.children);
    return r;
}
