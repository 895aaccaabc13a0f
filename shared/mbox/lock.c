/*
 * Locks: the kernel lock and the dotlock that every mail program knows, and our own lock of the sidecars. Runs as the
 * user; touches the mbox file, NAME.lock beside it (itself, through the keeper, or through liblockfile's setgid helper)
 * and NAME.lock in the state folder.
 *
 * Mail programs disagree about the order of kernel lock and dotlock. So nothing is ever waited for: all locks are
 * tried, and if one is not to be had all are released, and tried again after a random time.
 */
#include <errno.h>
#include <fcntl.h>
#include <lockfile.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"
#include "shared/mbox/box.h"
#include "shared/mbox/dotlock.h"

#define WAIT_FIRST_US 500u
#define WAIT_SOON_US  4000u  /* between tries while it is likely to be ours soon: an append takes about as long */
#define WAIT_MOST_US  50000u /* afterwards */
#define WAIT_SOON_MS  2000
#define KEEPER_ANSWER 10000 /* milliseconds */

/* One non-blocking try. -EAGAIN: held by somebody. */
static int kernel_lock(int fd, short type, off_t start, off_t len)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

    while (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        if (errno == EINTR)
            continue;
        return errno == EACCES ? -EAGAIN : errno == EBADF ? -EACCES : -errno;
    }
    return 0;
}

static int keeper_request(struct mbox_store *s, enum frame_type type)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader reader;
    uint32_t error;
    int r;

    if (s->is_keeper_lost)
        return -EIO;
    frame_begin(&f, (uint16_t)type);
    if (type == FRAME_KEEPER_LOCK && (r = frame_put_u32(&f, 0)) < 0)
        return r;
    if ((r = frame_send(s->keeper, &f, -1)) < 0 || (r = frame_recv(s->keeper, &f, KEEPER_ANSWER)) < 0) {
        s->is_keeper_lost = true; /* its answer may come yet, and must not be taken for that to another question */
        return r == -EAGAIN ? -EIO : r;
    }
    if (f.type == FRAME_KEEPER_OK)
        return 0;
    reader = frame_read(&f);
    if (f.type != FRAME_KEEPER_ERROR || frame_get_u32(&reader, &error) < 0 || error == 0 || error > 4095)
        return -EBADMSG;
    return error == EEXIST ? -EAGAIN : (int)-(int64_t)error;
}

/* On a full disk an empty file can still be made where liblockfile fails to write into its one. */
static int create_empty(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

    if (fd < 0)
        return errno == EEXIST ? -EAGAIN : -errno;
    close_fd(&fd);
    return 0;
}

static bool is_harmless(int error)
{
    return error == EACCES || error == EPERM || error == EROFS || error == ENOENT || error == 0;
}

/* Another program may take ours for stale and put its own in its place. */
static bool is_own_dotlock(const struct box *b, const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && st.st_dev == b->dotlock_dev && st.st_ino == b->dotlock_ino;
}

static int has_dotlock(struct box *b, const char *path)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? -EAGAIN : -errno;
    b->dotlock_dev = st.st_dev;
    b->dotlock_ino = st.st_ino;
    b->has_dotlock = true;
    return 0;
}

/* The dotlock, one try: ours with its mark, else liblockfile's, which breaks stale ones by age, may ask its setgid
 * helper and knows NFS. Where it cannot be made for want of permissions, the kernel lock has to do. */
static int dotlock(struct box *b)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    int r;

    if (b->is_kernel_only || (b->is_inbox && b->store->is_locked))
        return 0;
    if (b->is_inbox && b->store->keeper >= 0) {
        r = keeper_request(b->store, FRAME_KEEPER_LOCK);
        b->has_dotlock = r == 0;
        return r;
    }
    if ((r = buf_printf(&path, "%s.lock", b->path)) < 0)
        return r;
    r = dotlock_make(buf_cstr(&path));
    if (r == 0)
        return has_dotlock(b, buf_cstr(&path));
    errno = 0;
    switch (lockfile_create(buf_cstr(&path), 0, 0)) {
    case L_SUCCESS:
        return has_dotlock(b, buf_cstr(&path));
    case L_MAXTRYS:
    case L_RMSTALE:
        return -EAGAIN;
    default:
        break;
    }
    if (errno == ENOSPC || errno == EDQUOT) {
        r = create_empty(buf_cstr(&path));
        return r == 0 ? has_dotlock(b, buf_cstr(&path)) : r;
    }
    if (!is_harmless(errno))
        return -errno;
    if (!b->store->is_dotlock_noticed) {
        b->store->is_dotlock_noticed = true;
        (void)store_notice(b->store, "no dotlock for %s: %s; the kernel lock alone is used", b->path, strerror(errno));
    }
    return 0;
}

static void undotlock(struct box *b)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);

    if (!b->has_dotlock)
        return;
    b->has_dotlock = false;
    if (b->is_inbox && b->store->keeper >= 0)
        (void)keeper_request(b->store, FRAME_KEEPER_UNLOCK);
    else if (buf_printf(&path, "%s.lock", b->path) == 0 && is_own_dotlock(b, buf_cstr(&path)))
        (void)lockfile_remove(buf_cstr(&path));
}

void box_touch(struct box *b)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);

    if (b->has_dotlock && !(b->is_inbox && b->store->keeper >= 0) && buf_printf(&path, "%s.lock", b->path) == 0 &&
        is_own_dotlock(b, buf_cstr(&path)))
        (void)lockfile_touch(buf_cstr(&path));
}

static int try_file(struct box *b, unsigned kinds)
{
    struct stat st;
    int r;

    if ((r = box_reopen(b)) < 0)
        return r;
    if (b->fd < 0)
        return kinds & BOX_WRITE ? -ENOENT : 0;
    if ((kinds & BOX_WRITE) && !b->is_writable)
        return -EACCES;
    if ((r = kernel_lock(b->fd, kinds & BOX_WRITE ? F_WRLCK : F_RDLCK, 0, 0)) < 0)
        return r;
    b->held |= kinds & (BOX_READ | BOX_WRITE);
    /* Whoever held the lock before us may have put another file in its place. */
    if (lstat(b->path, &st) < 0 || fstat(b->fd, &b->facts) < 0 || st.st_dev != b->facts.st_dev ||
        st.st_ino != b->facts.st_ino)
        return -EAGAIN;
    return kinds & BOX_WRITE ? dotlock(b) : 0;
}

/* Is this the file that the path names? */
static bool is_same_file(int fd, const char *path)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && lstat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int try_state(struct box *b)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    int r;

    if (b->side == NULL)
        return 0;
    if ((r = buf_printf(&path, "%s.lock", b->side)) < 0)
        return r;
    if (b->lock_fd < 0) {
        if ((r = store_prepare(b->store)) < 0)
            return r == -ENOENT || r == -ENOTDIR ? -EACCES : r; /* not the mailbox is missing */
        b->lock_fd = open(buf_cstr(&path), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (b->lock_fd < 0)
            return -errno;
    }
    if ((r = kernel_lock(b->lock_fd, F_WRLCK, 0, 1)) < 0)
        return r;
    /* It goes when the mailbox is deleted or renamed: whoever comes later locks another one. */
    if (!is_same_file(b->lock_fd, buf_cstr(&path))) {
        close_fd(&b->lock_fd);
        return -EAGAIN;
    }
    b->held |= BOX_STATE;
    return 0;
}

void box_unlock(struct box *b)
{
    if (b->held & BOX_STATE)
        (void)kernel_lock(b->lock_fd, F_UNLCK, 0, 1);
    undotlock(b);
    if (b->held & (BOX_READ | BOX_WRITE))
        (void)kernel_lock(b->fd, F_UNLCK, 0, 0);
    b->held = 0;
}

/* Between half and one and a half of `us`. */
static void wait_about(unsigned us)
{
    struct timespec ts = {0};
    uint16_t chance = 0;

    (void)secret_random(&chance, sizeof(chance));
    us = us / 2 + us * chance / 65536;
    ts.tv_nsec = (long)us * 1000;
    (void)nanosleep(&ts, NULL);
}

/* One try at all locks of one mailbox. */
static int try_box(struct box *b, unsigned kinds)
{
    int r = 0;

    if (kinds & (BOX_READ | BOX_WRITE))
        r = try_file(b, kinds);
    if (r == 0 && (kinds & BOX_STATE))
        r = try_state(b);
    if (r < 0)
        box_unlock(b);
    return r;
}

static int try_all(const struct box_want *wants, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int r = try_box(wants[i].b, wants[i].kinds);

        if (r == 0)
            continue;
        while (i-- > 0)
            box_unlock(wants[i].b);
        return r;
    }
    return 0;
}

int box_lock_all(const struct box_want *wants, size_t count, int seconds)
{
    int64_t began = clock_monotonic_ms(), deadline = began + (int64_t)seconds * 1000;
    unsigned wait = WAIT_FIRST_US, most;

    for (;;) {
        int r = try_all(wants, count);

        if (r == 0 || r != -EAGAIN || clock_monotonic_ms() >= deadline)
            return r;
        wait_about(wait);
        most = clock_monotonic_ms() - began < WAIT_SOON_MS ? WAIT_SOON_US : WAIT_MOST_US;
        wait = wait * 2 > most ? most : wait * 2;
    }
}

int box_lock(struct box *b, unsigned kinds)
{
    return box_lock_all(&(struct box_want){.b = b, .kinds = kinds}, 1, b->store->lock_timeout);
}
