/*
 * The folders of the queue. Runs in smtp, relay and `pennypost` as root, in `smtp-session -bs` and sendmail as the
 * invoking user; touches the queue folder only.
 */
#include "shared/queue/queue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/queue/file.h"

void queue_close(struct queue *q)
{
    close_fd(&q->msg);
    close_fd(&q->new);
    close_fd(&q->cur);
    close_fd(&q->corrupt);
}

static int open_folder(int root, const char *name, int *ret)
{
    int fd = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 && errno == ENOENT) {
        if (mkdirat(root, name, 0700) < 0 && errno != EEXIST)
            return -errno;
        if (fsync(root) < 0)
            return -errno;
        fd = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    }
    if (fd < 0)
        return -errno;
    *ret = fd;
    return 0;
}

int queue_open(const char *folder, struct queue *ret)
{
    _cleanup_close_ int root = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_queue_ struct queue q = QUEUE_INIT;
    struct stat facts;
    int e;

    if (root < 0 || fstat(root, &facts) < 0)
        return -errno;
    if (facts.st_uid != geteuid() || (facts.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return -EPERM;
    e = open_folder(root, "msg", &q.msg);
    if (e == 0)
        e = open_folder(root, "new", &q.new);
    if (e == 0)
        e = open_folder(root, "cur", &q.cur);
    if (e == 0)
        e = open_folder(root, "corrupt", &q.corrupt);
    if (e < 0)
        return e;
    *ret = q;
    q = QUEUE_INIT;
    return 0;
}

bool queue_id_is_valid(struct str id)
{
    for (size_t i = 0; i < id.len; i++)
        if (!ascii_is_alpha(id.ptr[i]) && !ascii_is_digit(id.ptr[i]))
            return false;
    return id.len > 0 && id.len <= QUEUE_ID;
}

static int folder_of(const struct queue *q, const struct queue_entry *t)
{
    return t->is_new ? q->new : q->cur;
}

/* ---- creating ---- */

static int choose_id(struct clock *clock, struct str wish, char id[QUEUE_ID + 1])
{
    _cleanup_buf_ struct buf unique = BUF_INIT(QUEUE_ID);
    int e = wish.len > 0 ? buf_add_str(&unique, wish) : clock_unique(clock, &unique);

    if (e == 0 && !queue_id_is_valid(buf_str(&unique)))
        e = -EINVAL;
    if (e == 0)
        memcpy(id, buf_cstr(&unique), unique.len + 1);
    return e == -ENOBUFS ? -EINVAL : e;
}

static int write_envelope(const struct queue *q, int folder, const char *id, const struct queue_envelope *envelope,
                          bool is_fresh)
{
    _cleanup_buf_ struct buf text = BUF_INIT(QUEUE_ENVELOPE_MAX);
    int e = queue_envelope_format(envelope, &text);

    if (e < 0)
        return e == -ENOBUFS ? -E2BIG : e;
    return queue_file_replace(q->msg, folder, id, buf_str(&text), is_fresh);
}

int queue_create(struct queue *q, struct clock *clock, int file, const struct queue_envelope *envelope, struct str wish,
                 char ret_id[QUEUE_ID + 1])
{
    char id[QUEUE_ID + 1];
    int e;

    if (!envelope->sender || envelope->count == 0)
        return -EINVAL;
    e = choose_id(clock, wish, id);
    if (e == 0)
        e = queue_file_store(q->msg, file, id);
    if (e < 0)
        return e;
    e = write_envelope(q, q->new, id, envelope, true);
    if (e < 0) {
        (void)unlinkat(q->new, id, 0);
        (void)unlinkat(q->msg, id, 0);
        return e;
    }
    if (ret_id)
        memcpy(ret_id, id, sizeof(id));
    return 0;
}

/* ---- looking ---- */

/* The envelope may go from new/ to cur/ between two looks, once, and be in both for a moment. */
static int read_envelope(const struct queue *q, const char *id, bool *ret_is_new, struct queue_envelope *ret)
{
    _cleanup_buf_ struct buf text = BUF_INIT(QUEUE_ENVELOPE_MAX);
    const int folders[] = {q->cur, q->new, q->cur};
    int e = -ENOENT;

    if (!queue_id_is_valid(str_from(id)))
        return -ENOENT;
    for (size_t i = 0; i < ARRAY_SIZE(folders) && e == -ENOENT; i++) {
        e = queue_file_read(folders[i], id, &text);
        *ret_is_new = folders[i] == q->new;
    }
    return e < 0 ? e : queue_envelope_parse(buf_str(&text), ret);
}

int queue_peek(const struct queue *q, const char *id, struct queue_envelope *ret)
{
    bool is_new;

    return read_envelope(q, id, &is_new, ret);
}

int queue_peek_message(const struct queue *q, const char *id, int *ret_fd)
{
    int fd;

    if (!queue_id_is_valid(str_from(id)))
        return -ENOENT;
    fd = openat(q->msg, id, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

/* ---- working ---- */

/* Out of the way, where an admin finds it. */
static int put_aside(struct queue *q, const char *id)
{
    char message[QUEUE_ID + 8];

    (void)snprintf(message, sizeof(message), "%s.msg", id);
    if (renameat(q->msg, id, q->corrupt, message) < 0 && errno != ENOENT)
        return -errno;
    if (renameat(q->new, id, q->corrupt, id) < 0 && errno != ENOENT)
        return -errno;
    if (renameat(q->cur, id, q->corrupt, id) < 0 && errno != ENOENT)
        return -errno;
    return fsync(q->corrupt) < 0 ? -errno : 0;
}

static bool has_envelope(const struct queue *q, const char *id)
{
    return faccessat(q->new, id, F_OK, 0) == 0 || faccessat(q->cur, id, F_OK, 0) == 0 ||
           faccessat(q->new, id, F_OK, 0) == 0;
}

static bool is_in(int folder, const char *id)
{
    return faccessat(folder, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The name in new/ of an entry that is in cur/. Whatever comes later, a removal waits for the disk in both folders. */
static int leave_new(struct queue *q, const char *id)
{
    if (unlinkat(q->new, id, 0) < 0 && errno != ENOENT)
        return -errno;
    q->is_new_behind = true;
    return 0;
}

int queue_take(struct queue *q, const char *id, struct queue_entry *ret)
{
    _cleanup_queue_entry_ struct queue_entry t = QUEUE_ENTRY_INIT;
    int e;

    if (!queue_id_is_valid(str_from(id)))
        return -ENOENT;
    (void)snprintf(t.id, sizeof(t.id), "%s", id);
    e = queue_file_lock(q->msg, id, &t.file);
    if (e == -ENOENT && !has_envelope(q, id)) /* the message goes last: removed since we heard of it */
        return -ENOENT;
    if (e == -ENOENT || e == -EPERM)
        e = -EBADMSG;
    else if (e == 0)
        e = read_envelope(q, id, &t.is_new, &t.envelope);
    /* A wait for the disk may have failed since it came to cur/, and the name in new/ be the only one there. */
    if (e == 0 && !t.is_new && is_in(q->new, id))
        e = fsync(q->cur) < 0 ? -errno : leave_new(q, id);
    if (e == -EBADMSG) {
        int moved = put_aside(q, id);

        return moved < 0 ? moved : e;
    }
    if (e < 0)
        return e;
    *ret = t;
    t = QUEUE_ENTRY_INIT;
    return 0;
}

void queue_release(struct queue_entry *t)
{
    close_fd(&t->file);
    queue_envelope_finish(&t->envelope);
    *t = QUEUE_ENTRY_INIT;
}

int queue_update(struct queue *q, const struct queue_entry *t)
{
    return write_envelope(q, folder_of(q, t), t->id, &t->envelope, false);
}

int queue_put_off(struct queue *q, struct queue_entry *t)
{
    int e = write_envelope(q, q->cur, t->id, &t->envelope, false);
    bool was_new = t->is_new;

    /* Whether it can leave new/ or not, or only the wait for the disk failed: a rename would bring the old envelope
     * back. */
    if (e == 0 || (was_new && is_in(q->cur, t->id)))
        t->is_new = false;
    if (e < 0)
        return e;
    return was_new ? leave_new(q, t->id) : 0;
}

int queue_settle(struct queue *q, struct queue_entry *t)
{
    if (!t->is_new)
        return 0;
    if (renameat(q->new, t->id, q->cur, t->id) < 0)
        return -errno;
    t->is_new = false;
    q->is_new_behind = true;
    return fsync(q->cur) < 0 ? -errno : 0;
}

/* Where it comes to is on the disk before it is gone from where it was. */
int queue_renew(struct queue *q, struct queue_entry *t)
{
    if (t->is_new)
        return 0;
    if (renameat(q->cur, t->id, q->new, t->id) < 0)
        return -errno;
    t->is_new = true;
    return fsync(q->new) < 0 || fsync(q->cur) < 0 ? -errno : 0;
}

int queue_unlink(struct queue *q, const struct queue_entry *t)
{
    if (unlinkat(folder_of(q, t), t->id, 0) < 0 && errno != ENOENT)
        return -errno;
    q->is_new_behind = true; /* also for one that left it long ago, in a process that did not wait for the disk */
    q->is_cur_behind |= !t->is_new;
    return 0;
}

int queue_sync(struct queue *q)
{
    if (q->is_new_behind && fsync(q->new) < 0)
        return -errno;
    q->is_new_behind = false;
    if (q->is_cur_behind && fsync(q->cur) < 0)
        return -errno;
    q->is_cur_behind = false;
    return 0;
}

int queue_forget(struct queue *q, const struct queue_entry *t)
{
    return unlinkat(q->msg, t->id, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int queue_remove(struct queue *q, struct queue_entry *t)
{
    int e = queue_unlink(q, t);

    if (e == 0)
        e = queue_sync(q);
    return e < 0 ? e : queue_forget(q, t);
}

/* ---- walking ---- */

static int begin_folder(struct queue_walk *w)
{
    int fd = openat(w->is_cur ? w->queue->cur : w->queue->new, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    w->dir = fdopendir(fd);
    if (w->dir)
        return 0;
    (void)close(fd);
    return -ENOMEM;
}

int queue_walk_begin(const struct queue *q, struct queue_walk *ret)
{
    struct queue_walk w = {.queue = q};
    int e = begin_folder(&w);

    if (e == 0)
        *ret = w;
    return e;
}

void queue_walk_end(struct queue_walk *w)
{
    if (w->dir)
        (void)closedir(w->dir);
    *w = (struct queue_walk){0};
}

/* The next file of the folder at hand whose name is an id. 1, 0, or a negative errno. */
static int next_of(DIR *dir, char id[QUEUE_ID + 1])
{
    const struct dirent *entry;

    for (;;) {
        errno = 0;
        entry = readdir(dir);
        if (!entry)
            return -errno;
        if (!queue_id_is_valid(str_from(entry->d_name)))
            continue;
        memcpy(id, entry->d_name, strlen(entry->d_name) + 1);
        return 1;
    }
}

int queue_walk_next(struct queue_walk *w, char ret_id[QUEUE_ID + 1])
{
    int e = next_of(w->dir, ret_id);

    if (e != 0 || w->is_cur || w->only_new)
        return e;
    (void)closedir(w->dir);
    w->dir = NULL;
    w->is_cur = true;
    e = begin_folder(w);
    return e < 0 ? e : next_of(w->dir, ret_id);
}

/* ---- cleaning ---- */

/* A message that lost its envelope, under its lock: nobody who creates or works may be in between. */
static int sweep_message(struct queue *q, const char *id, int64_t now)
{
    _cleanup_close_ int file = -1;
    struct stat facts;
    int e = queue_file_lock(q->msg, id, &file);

    if (e == -EAGAIN || e == -ENOENT)
        return 0;
    if (e == 0 && (fstat(file, &facts) < 0 || fstatat(q->msg, id, &facts, AT_SYMLINK_NOFOLLOW) < 0))
        e = -errno;
    if (e < 0)
        return e;
    if (facts.st_ctime > now - QUEUE_ORPHAN || has_envelope(q, id))
        return 0;
    return unlinkat(q->msg, id, 0) < 0 ? -errno : 1;
}

int queue_sweep(struct queue *q, int64_t now)
{
    struct queue_walk w = {.queue = q};
    _cleanup_close_ int fd = openat(q->msg, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char id[QUEUE_ID + 1];
    int count, e;

    if (fd < 0)
        return -errno;
    count = queue_file_sweep(q->msg, now - QUEUE_ORPHAN);
    if (count < 0)
        return count;
    w.dir = fdopendir(fd);
    if (!w.dir)
        return -ENOMEM;
    (void)steal_fd(&fd);
    while ((e = next_of(w.dir, id)) > 0) {
        int n = sweep_message(q, id, now);

        if (n < 0 && e > 0)
            e = n;
        count += n > 0;
    }
    queue_walk_end(&w);
    return e < 0 ? e : count;
}
