/*
 * pennypost recover: at boot, before mail programs run, as root. For every user whose mailbox was locked when the
 * machine went down (the keeper left a marker) `deliver --recover` runs as that user: it finishes or undoes what the
 * journal in his state folder says. Root itself touches no mailbox.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>

#include "handlers/admin/command.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/base/maker.h"
#include "shared/gate/chain.h"
#include "shared/gate/dotlock.h"
#include "shared/gate/keeper.h"
#include "shared/gate/priv.h"

/* `marker`: USER.PID, as the keeper names it. 1: the user is gone, there is nobody to recover for, at no later boot
 * either. (Should it be the directory that is away, the next program that opens the mailbox still recovers it.) */
static int recover_user(const struct conf *conf, const char *marker)
{
    _cleanup_priv_user_ struct priv_user user = {0};
    struct chain_child child = CHAIN_CHILD_NONE;
    const char *dot = strrchr(marker, '.');
    int status;
    int r;

    r = priv_user_find(str_sub(str_from(marker), 0, dot ? (size_t)(dot - marker) : strlen(marker)), &user);
    if (r == -ENOENT)
        return 1;
    if (r < 0)
        return r;
    struct chain_spec spec = {CHAIN_SPEC("deliver"), .arguments = {"--recover"}, .conf = conf, .user = &user,
                              .no_new_privs = true};

    r = chain_spawn(&spec, &child);
    if (r < 0)
        return r;
    while (waitpid(child.pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

static void close_dir(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

/* A keeper that was killed leaves the file of its lock (shared/gate/dotlock.h) beside the mailboxes. It keeps nobody
 * out. */
static void sweep_spool(const struct conf *conf)
{
    _cleanup_(close_dir) DIR *dir = strchr(conf->spool, '%') ? NULL : opendir(conf->spool);
    const struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        _cleanup_close_ int fd = -1;

        if (strncmp(entry->d_name, DOTLOCK_SPARE, strlen(DOTLOCK_SPARE)) != 0)
            continue;
        fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && maker_is_gone(fd))
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
}

int recover_main(struct conf *conf, int argc, char **argv)
{
    _cleanup_(close_dir) DIR *dir = NULL;
    const struct dirent *entry;
    unsigned recovered = 0;
    unsigned failed = 0;

    if (argc > 1) {
        (void)fprintf(stderr, "usage: pennypost recover\n");
        return EX_USAGE;
    }
    sweep_spool(conf);
    dir = opendir(KEEPER_LOCKS_DIR);
    if (!dir && errno == ENOENT)
        return 0;
    if (!dir) {
        (void)fprintf(stderr, "pennypost recover: %s: %s\n", KEEPER_LOCKS_DIR, strerror(errno));
        return EX_NOPERM;
    }
    while ((entry = readdir(dir))) {
        int r;

        if (entry->d_name[0] == '.')
            continue;
        r = recover_user(conf, entry->d_name);
        if (r >= 0 && unlinkat(dirfd(dir), entry->d_name, 0) < 0)
            r = -errno;
        if (r < 0) {
            failed++;
            LOG_ERROR(LOG_ERR, "recover", r, LOG_FC("user", entry->d_name));
        } else if (r > 0) {
            LOG_EVENT(LOG_WARNING, "recover: no such user any more", LOG_FC("user", entry->d_name));
        } else {
            recovered++;
            LOG_EVENT(LOG_NOTICE, "recover", LOG_FC("user", entry->d_name));
        }
    }
    (void)printf("%u mailboxes recovered, %u failed\n", recovered, failed);
    return failed > 0 ? EX_IOERR : 0;
}
