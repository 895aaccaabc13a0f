/*
 * A mailbox whose state cannot be used (a state folder that is not writable, a full disk, no home) is still shown: by a
 * second store over the same files with a state of its own that lives as long as the first. It changes nothing, and
 * its UIDs are under a UIDVALIDITY that nobody else gives, so that they name the right messages or none. Runs as the
 * user; makes a folder in a place for temporary files.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/mbox/box.h"
#include "shared/mbox/journal.h"

#define VALIDITY_FIRST 0x80000000u /* clocks get there in 2038, and rebuild.c believes no file that says more than */
#define VALIDITY_RANGE 0x6fffffffu /* the sum of these */

static int make_folder(char **ret)
{
    static const char *const places[] = {"/dev/shm", "/tmp", "/var/tmp"};

    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE);
        char *name;

        if (buf_printf(&path, "%s/pennypost-%d-XXXXXX", places[i], (int)getpid()) < 0)
            return -ENOMEM;
        name = str_dup(buf_str(&path));
        if (name == NULL)
            return -ENOMEM;
        if (mkdtemp(name) != NULL) {
            *ret = name;
            return 0;
        }
        free(name);
    }
    return -errno;
}

void store_remove_shadow(struct mbox_store *s)
{
    DIR *folder = s->state == NULL ? NULL : opendir(s->state);
    const struct dirent *entry;

    if (folder == NULL)
        return;
    while ((entry = readdir(folder)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(dirfd(folder), entry->d_name, 0);
    (void)closedir(folder);
    (void)rmdir(s->state);
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
    int r = make_folder(&folder);

    if (r < 0)
        return r;
    options.state = folder;
    if ((r = mbox_store_new(&options, &s->shadow)) < 0) {
        (void)rmdir(folder);
        return r;
    }
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
    bool is_new = s->shadow == NULL;

    if (s->parent != NULL || !is_of_state(error) || is_unfinished(s, name) || (is_new && make_shadow(s) < 0))
        return NULL;
    if (is_new)
        (void)store_notice(s,
                           "the state folder %s cannot be used: %s; mailboxes are shown read-only, with UIDs that"
                           " last as long as this session",
                           s->state == NULL ? "(none)" : s->state, strerror(-error));
    return s->shadow;
}
