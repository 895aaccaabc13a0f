/*
 * Being told when a mailbox changes: inotify on the mbox file (mail arrives, other programs write) and on the index
 * (other sessions change flags). Where it does not work (NFS, limits) the caller polls. Runs as the user.
 */
#include <errno.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/base/remote.h"
#include "shared/mbox/view.h"

#define POLL_MS       800   /* without inotify: an idle client hears within a second */
#define POLL_PROVE_MS 300   /* mail was told, the rest of the file is to be looked at; not after each of many */
#define POLL_ALSO_MS  60000 /* with it, in case that an event was lost */
#define FILE_EVENTS   (IN_MODIFY | IN_MOVE_SELF | IN_DELETE_SELF | IN_ATTRIB)
#define FOLDER_EVENTS (IN_CREATE | IN_MOVED_TO)

/* Other hosts write there too, and inotify does not tell of them. */
static bool is_shared_with_hosts(const char *path)
{
    struct statfs fs;

    return statfs(path, &fs) == 0 && remote_is_shared(&fs);
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
    if (v->ix.head->is_unproven)
        return POLL_PROVE_MS;
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
