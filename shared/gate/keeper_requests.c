/*
 * What the session asks of the keeper: the dotlock of its spool file, and the file itself. Runs in the keeper: with the
 * user's fsuid and the spool's group, and the few capabilities that this takes (or as the user who tries Pennypost
 * out).
 */
#include "shared/gate/keeper_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/gate/session.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"

#define RETRY_MS 50 /* shortest wait between two tries for the lock; random up to four times as long */

/* ---- as whom, and where ---- */

void keeper_be_user(const struct keeper *k)
{
    if (priv_is_root()) {
        (void)setfsgid(k->group);
        (void)setfsuid(k->user.uid);
    }
}

void keeper_be_self(void)
{
    if (priv_is_root()) {
        (void)setfsuid(0);
        (void)setfsgid(getegid());
    }
}

static int find_folder(struct keeper *k, struct stat *ret)
{
    _cleanup_free_ char *inbox = NULL;
    char *slash = NULL;
    int r = session_inbox(k->conf, str_from(k->user.name), str_from(k->user.home), &inbox);

    if (r < 0)
        return r;
    slash = strrchr(inbox, '/');
    if (strlen(slash ? slash + 1 : inbox) >= sizeof(k->name))
        return -ENAMETOOLONG;
    (void)snprintf(k->name, sizeof(k->name), "%s", slash ? slash + 1 : inbox);
    if (slash)
        slash[slash == inbox ? 1 : 0] = '\0';
    k->folder = open(slash ? inbox : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return k->folder < 0 || fstat(k->folder, ret) < 0 ? -errno : 0;
}

/* A folder that the configuration puts into the user's home is looked up with the user's rights, and what is made there
 * has the user's own group: he may have made a link of it that leads to a place where another group may write. */
int keeper_open_folder(struct keeper *k)
{
    bool is_users_own = strstr(k->conf->spool, "%h") != NULL;
    struct stat st;
    int r = 0;

    k->group = k->user.gid;
    if (is_users_own)
        keeper_be_user(k);
    r = find_folder(k, &st);
    keeper_be_self();
    if (r < 0)
        return r;
    k->is_shared_group = !is_users_own && st.st_gid != 0 && (st.st_mode & S_IWGRP) != 0;
    if (k->is_shared_group)
        k->group = st.st_gid;
    return dotlock_init(&k->lock, k->folder, k->name);
}

/* ---- markers ---- */

static void set_marker(struct keeper *k)
{
    _cleanup_close_ int fd = -1;

    if (k->markers < 0 || k->marker[0] != '\0')
        return;
    (void)snprintf(k->marker, sizeof(k->marker), "%s.%d", k->user.name, (int)getpid());
    keeper_be_self();
    fd = openat(k->markers, k->marker, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    /* Without the marker a power cut is recovered from at the next opening of the box instead of at boot. */
    if (fd < 0 || fsync(k->markers) < 0)
        LOG_ERROR(LOG_WARNING, "no recovery marker", errno, LOG_FC("user", k->user.name));
    keeper_be_user(k);
}

void keeper_clear_marker(struct keeper *k)
{
    if (k->marker[0] == '\0')
        return;
    keeper_be_self();
    (void)unlinkat(k->markers, k->marker, 0);
    keeper_be_user(k);
    k->marker[0] = '\0';
}

/* ---- requests ---- */

static int answer(const struct keeper *k, int error)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = 0;

    frame_begin(&f, error == 0 ? FRAME_KEEPER_OK : FRAME_KEEPER_ERROR);
    if (error != 0)
        r = frame_put_u32(&f, (uint32_t)-error);
    return r < 0 ? r : frame_send(k->session.control, &f, -1);
}

/* Waits a random moment. False when the session is gone or speaks out of turn. */
static bool wait_a_moment(const struct keeper *k)
{
    struct pollfd p = {.fd = k->session.control, .events = POLLIN};
    unsigned char random = 0;

    (void)secret_random(&random, 1);
    return poll(&p, 1, RETRY_MS + random) == 0;
}

static int take_lock(struct keeper *k, uint32_t seconds)
{
    int64_t end = clock_monotonic_ms() + seconds * INT64_C(1000);
    int r = 0;

    if (k->lock.fd >= 0)
        return -EALREADY;
    set_marker(k);
    do
        r = dotlock_try(&k->lock);
    while (r == -EAGAIN && clock_monotonic_ms() < end && wait_a_moment(k));
    k->touched = clock_monotonic_ms();
    return r;
}

static int on_lock(struct keeper *k, struct frame_reader *in)
{
    uint32_t seconds = 0;

    if (frame_get_u32(in, &seconds) < 0 || frame_end(in) < 0 || seconds > 2 * TIMEOUT_LOCK)
        return -EBADMSG;
    return answer(k, take_lock(k, seconds));
}

static int on_unlock(struct keeper *k, struct frame_reader *in)
{
    if (frame_end(in) < 0)
        return -EBADMSG;
    (void)dotlock_release(&k->lock); /* somebody may have taken it for stale: what could be done about that is done */
    return 0;
}

/* The file appears whole and durable, or not at all. */
static int create_box(struct keeper *k)
{
    _cleanup_close_ int fd = openat(k->folder, k->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                                    k->is_shared_group ? 0660 : 0600);

    if (fd < 0)
        return errno == EEXIST ? 0 : -errno;
    if (fsync(fd) < 0 || fsync(k->folder) < 0)
        return -errno;
    return 0;
}

static int on_create(struct keeper *k, struct frame_reader *in)
{
    if (frame_end(in) < 0)
        return -EBADMSG;
    return answer(k, create_box(k));
}

int keeper_serve_frame(struct keeper *k)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader in;
    int r = frame_recv(k->session.control, &f, 0);

    if (r < 0)
        return r;
    if (f.fd >= 0)
        return -EBADMSG;
    in = frame_read(&f);
    switch (f.type) {
    case FRAME_KEEPER_LOCK:
        return on_lock(k, &in);
    case FRAME_KEEPER_UNLOCK:
        return on_unlock(k, &in);
    case FRAME_KEEPER_CREATE:
        return on_create(k, &in);
    default:
        return -EPROTO;
    }
}
