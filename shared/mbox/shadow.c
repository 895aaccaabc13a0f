/*
 * A mailbox whose state cannot be used (a state folder that is not writable, a full disk, no home) is still shown: by a
 * second store over the same files with a state of its own that lives as long as the first. It changes nothing, and
 * its UIDs are under a UIDVALIDITY that nobody else gives, so that they name the right messages or none. Runs as the
 * user; makes a folder in a place for temporary files, holds a lock on it, and removes those of sessions that were
 * killed: nobody holds them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/mbox/box.h"
#include "shared/mbox/journal.h"

#define VALIDITY_FIRST 0x80000000u /* clocks get there in 2038, and rebuild.c believes no file that says more than */
#define VALIDITY_RANGE 0x6fffffffu /* the sum of these */

#define PREFIX   "pennypost-shadow-"
#define LOOKED   10000 /* entries of a place that are looked at: other people fill it too */
#define ATTEMPTS 3     /* to hold a new folder before somebody takes it for an old one */

static void empty_folder(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    DIR *folder = copy < 0 ? NULL : fdopendir(copy);
    const struct dirent *entry;

    if (folder == NULL) {
        close_fd(&copy);
        return;
    }
    while ((entry = readdir(folder)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(fd, entry->d_name, 0);
    (void)closedir(folder);
}

/* Our own folder, locked. -EAGAIN: somebody holds it, or it is gone. */
static int hold(int at, const char *path, int *ret_fd)
{
    int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return -EAGAIN;
    if (fstat(fd, &st) < 0 || st.st_uid != geteuid() || flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &st) < 0 ||
        st.st_nlink == 0) {
        close_fd(&fd);
        return -EAGAIN;
    }
    *ret_fd = fd;
    return 0;
}

static void sweep(const char *place)
{
    DIR *folder = opendir(place);
    const struct dirent *entry;

    if (folder == NULL)
        return;
    for (unsigned i = 0; i < LOOKED && (entry = readdir(folder)) != NULL; i++) {
        _cleanup_close_ int fd = -1;

        if (!str_starts(str_from(entry->d_name), STR(PREFIX)) || hold(dirfd(folder), entry->d_name, &fd) < 0)
            continue;
        empty_folder(fd);
        (void)unlinkat(dirfd(folder), entry->d_name, AT_REMOVEDIR);
    }
    (void)closedir(folder);
}

static int make_held(const char *place, char **ret, int *ret_fd)
{
    for (unsigned i = 0; i < ATTEMPTS; i++) {
        _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE);
        char *name;

        if (buf_printf(&path, "%s/" PREFIX "XXXXXX", place) < 0 || (name = str_dup(buf_str(&path))) == NULL)
            return -ENOMEM;
        if (mkdtemp(name) == NULL) {
            free(name);
            return -errno;
        }
        if (hold(AT_FDCWD, name, ret_fd) == 0) {
            *ret = name;
            return 0;
        }
        (void)rmdir(name);
        free(name);
    }
    return -EAGAIN;
}

static int make_folder(char **ret, int *ret_fd)
{
    static const char *const places[] = {"/dev/shm", "/tmp", "/var/tmp"};

    int r = -ENOENT;

    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        sweep(places[i]);
        r = make_held(places[i], ret, ret_fd);
        if (r == 0 || r == -ENOMEM)
            return r;
    }
    return r;
}

void store_remove_shadow(struct mbox_store *s)
{
    if (s->held_state < 0)
        return;
    empty_folder(s->held_state);
    (void)rmdir(s->state);
    close_fd(&s->held_state);
}

int store_shadow_validity(uint32_t *ret)
{
    uint32_t chance;
    int r = secret_random(&chance, sizeof(chance));

    if (r == 0)
        *ret = VALIDITY_FIRST + chance % VALIDITY_RANGE;
    return r;
}

static int make_shadow(struct mbox_store *s)
{
    struct mbox_store_options options = {.inbox = s->inbox,
                                         .folders = s->folders,
                                         .owner = s->owner,
                                         .clock = s->clock,
                                         .keeper = -1,
                                         .lock_timeout = s->lock_timeout};
    _cleanup_free_ char *folder = NULL;
    int fd = -1, r = make_folder(&folder, &fd);

    if (r < 0)
        return r;
    options.state = folder;
    if ((r = mbox_store_new(&options, &s->shadow)) < 0) {
        (void)rmdir(folder);
        close_fd(&fd);
        return r;
    }
    s->shadow->held_state = fd;
    s->shadow->parent = s;
    return 0;
}

/* Errors that may be those of the state. When it was the mailbox that said it, it will say it again. */
static bool is_of_state(int error)
{
    static const int errors[] = {EACCES, EPERM, EROFS, ENOTDIR, ELOOP, ENOSPC, EDQUOT, EIO, EISDIR};

    for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
        if (error == -errors[i])
            return true;
    return false;
}

/* In the middle of a change that cannot be finished now the file is not to be shown. */
static bool is_unfinished(struct mbox_store *s, struct str name)
{
    struct box *b;
    bool is;

    if (box_open(s, name, false, &b) < 0)
        return false;
    is = journal_exists(b);
    box_free(b);
    return is;
}

struct mbox_store *store_shadow(struct mbox_store *s, struct str name, int error)
{
    if (s->parent != NULL || !is_of_state(error) || is_unfinished(s, name) || (s->shadow == NULL && make_shadow(s) < 0))
        return NULL;
    return s->shadow;
}

void store_shadow_notice(struct mbox_store *s, struct str name, int error, bool is_shown)
{
    _cleanup_free_ char *canonical = NULL, *path = NULL, *side = NULL;

    if (is_shown && !s->is_shadow_noticed) {
        s->is_shadow_noticed = true;
        (void)store_notice(s,
                           "the state folder %s cannot be used: %s; mailboxes are shown read-only, with UIDs that"
                           " last as long as this session",
                           s->state == NULL ? "(none)" : s->state, strerror(-error));
    }
    if (!is_shown && is_of_state(error) && name_resolve(s, name, &canonical, &path, &side) >= 0)
        (void)store_notice(s, "%s cannot be opened: %s", path, strerror(-error));
}
