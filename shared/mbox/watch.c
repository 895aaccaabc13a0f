/*
 * Being told when a mailbox changes: inotify on the mbox file (mail arrives, other programs write) and on the index
 * (other sessions change flags). Where it does not work (NFS, limits) the caller polls. Runs as the user.
 */
#include <errno.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/view.h"

#define POLL_MS       800   /* without inotify: an idle client hears within a second */
#define POLL_ALSO_MS  60000 /* with it, in case that an event was lost */
#define FILE_EVENTS   (IN_MODIFY | IN_MOVE_SELF | IN_DELETE_SELF | IN_ATTRIB)
#define FOLDER_EVENTS (IN_CREATE | IN_MOVED_TO)

/* Other hosts write there too, and inotify does not tell of them (statfs(2) names the types). */
static bool is_shared_with_hosts(const char *path)
{
    static const unsigned long types[] = {
        0x6969 /* NFS */,       0xff534d42 /* CIFS */, 0xfe534d42 /* SMB2 */, 0x517b /* SMB */,
        0x01021997 /* 9P */,    0x65735546 /* FUSE */, 0x5346414f /* AFS */,  0x00c36400 /* Ceph */,
        0x7461636f /* OCFS2 */, 0x01161970 /* GFS2 */,
    };
    struct statfs fs;

    if (statfs(path, &fs) < 0)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (((unsigned long)fs.f_type & 0xffffffff) == types[i])
            return true;
    return false;
}

/* A mailbox that does not exist yet is watched by its folder. */
static bool watch_folder(struct mbox *v)
{
    const char *slash = strrchr(v->b->path, '/');
    _cleanup_free_ char *folder =
        slash == NULL ? str_dup(STR(".")) : str_dup((struct str){v->b->path, (size_t)(slash - v->b->path) + 1});

    return folder != NULL && inotify_add_watch(v->watch, folder, FOLDER_EVENTS) >= 0 && !is_shared_with_hosts(folder);
}

static void watch_add(struct mbox *v)
{
    _cleanup_buf_ struct buf index = BUF_INIT(LIMIT_CONF_VALUE * 8);

    if (inotify_add_watch(v->watch, v->b->path, FILE_EVENTS) < 0)
        v->is_watch_whole = watch_folder(v);
    else
        v->is_watch_whole = !is_shared_with_hosts(v->b->path);
    if (buf_printf(&index, "%s.index", v->b->side) < 0 ||
        inotify_add_watch(v->watch, buf_cstr(&index), IN_MODIFY | IN_ATTRIB) < 0)
        v->is_watch_whole = false;
}

/* What changed between the last poll and now is not told by the watch: one that is taken away again makes the fd
 * readable. */
static void watch_wake(struct mbox *v)
{
    int one = inotify_add_watch(v->watch, "/", IN_DELETE_SELF);

    if (one >= 0)
        (void)inotify_rm_watch(v->watch, one);
}

int mbox_watch_fd(struct mbox *v)
{
    if (v->watch < 0 && !v->is_watch_tried) {
        v->is_watch_tried = true;
        v->watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (v->watch >= 0) {
            watch_add(v);
            watch_wake(v);
        }
    }
    return v->watch;
}

int mbox_watch_interval(struct mbox *v)
{
    return v->watch >= 0 && v->is_watch_whole ? POLL_ALSO_MS : POLL_MS;
}

void watch_drain(struct mbox *v)
{
    char events[4096];
    bool has_events = false;

    if (v->watch < 0)
        return;
    while (read(v->watch, events, sizeof(events)) > 0)
        has_events = true;
    if (has_events) /* a file may have been made, or replaced by another */
        watch_add(v);
}

void watch_finish(struct mbox *v)
{
    close_fd(&v->watch);
}
