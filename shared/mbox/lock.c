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
#include "shared/base/maker.h"
#include "shared/base/secret.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"
#include "shared/mbox/box.h"
#include "shared/mbox/dotlock.h"

#define WAIT_FIRST_US 500u
#define WAIT_SOON_US  4000u  /* between tries while it is likely to be ours soon: an append takes about as long */
#define WAIT_TURN_US  800u   /* where only a few try */
#define WAIT_MOST_US  50000u /* afterwards */
#define WAIT_SOON_MS  2000
#define KEEPER_ANSWER 10000 /* milliseconds */
#define TOUCH_MS      20000 /* a small part of MAKER_STALE */

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

int store_ask_keeper(struct mbox_store *s, uint16_t type, int timeout_ms)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader reader;
    uint32_t error;
    int r;

    if (s->keeper_error < 0)
        return s->keeper_error;
    frame_begin(&f, type);
    if (type == FRAME_KEEPER_LOCK && (r = frame_put_u32(&f, 0)) < 0)
        return r;
    if ((r = frame_send(s->keeper, &f, -1)) < 0 || (r = frame_recv(s->keeper, &f, timeout_ms)) < 0) {
        if (r == -ENODATA)
            r = -EPIPE;
        /* An answer may come yet, and must not be taken for that to another question. */
        s->keeper_error = r == -EPIPE ? r : -EIO;
        return r == -EAGAIN ? -EIO : r;
    }
    if (f.type == FRAME_KEEPER_OK)
        return 0;
    reader = frame_read(&f);
    if (f.type != FRAME_KEEPER_ERROR || frame_get_u32(&reader, &error) < 0 || error == 0 || error > 4095)
        return -EBADMSG;
    return (int)-(int64_t)error;
}

/* Nobody waits for it: what is asked next is answered after it. */
static void tell_unlock(struct mbox_store *s)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int r = 0;

    frame_begin(&f, FRAME_KEEPER_UNLOCK);
    if (s->keeper_error == 0)
        r = frame_send(s->keeper, &f, -1);
    if (r < 0)
        s->keeper_error = r == -EPIPE ? r : -EIO;
}

static bool is_refused(int r)
{
    return r == -EACCES || r == -EPERM || r == -EROFS || r == -ENOENT;
}

/* By liblockfile's setgid helper, which some systems have. -EAGAIN: somebody has it. */
static int dotlock_by_helper(const char *path, int *ret_fd)
{
    struct stat st;

    if (lstat(path, &st) == 0 && time(NULL) < st.st_mtime + MAKER_STALE)
        return -EAGAIN; /* without liblockfile: see dotlock.h */
    errno = 0;
    switch (lockfile_create(path, 0, 0)) {
    case L_SUCCESS:
        *ret_fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (*ret_fd >= 0)
            return 0;
        (void)lockfile_remove(path);
        return -EAGAIN;
    case L_MAXTRYS:
    case L_RMSTALE:
        return -EAGAIN;
    default:
        return errno == 0 ? -EACCES : -errno;
    }
}

/* The dotlock, one try. Where it cannot be made for want of permissions, the kernel lock has to do. */
static int dotlock(struct box *b)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    int r;

    if (b->is_inbox && b->store->is_locked)
        return 0;
    if (b->is_inbox && b->store->keeper >= 0) {
        r = store_ask_keeper(b->store, FRAME_KEEPER_LOCK, KEEPER_ANSWER);
        b->has_dotlock = r == 0;
        return r == -EEXIST ? -EAGAIN : r;
    }
    if ((r = buf_printf(&path, "%s.lock", b->path)) < 0)
        return r;
    r = dotlock_make(buf_cstr(&path), &b->dotlock_fd);
    if (is_refused(r))
        r = dotlock_by_helper(buf_cstr(&path), &b->dotlock_fd);
    b->has_dotlock = r == 0;
    b->touched = clock_monotonic_ms();
    if (!is_refused(r))
        return r;
    if (!b->store->is_dotlock_noticed) {
        b->store->is_dotlock_noticed = true;
        (void)store_notice(b->store, "no dotlock for %s: %s; the kernel lock alone is used", b->path, strerror(-r));
    }
    return 0;
}

/* Another program may have taken ours for stale and put its own in its place. */
static void undotlock(struct box *b)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);

    if (!b->has_dotlock)
        return;
    b->has_dotlock = false;
    if (b->is_inbox && b->store->keeper >= 0)
        tell_unlock(b->store);
    else if (buf_printf(&path, "%s.lock", b->path) == 0 && dotlock_is(b->dotlock_fd, buf_cstr(&path)))
        (void)lockfile_remove(buf_cstr(&path));
    close_fd(&b->dotlock_fd);
}

void box_touch(struct box *b)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);

    /* The keeper refreshes its own. */
    if (!b->has_dotlock || (b->is_inbox && b->store->keeper >= 0) || clock_monotonic_ms() - b->touched < TOUCH_MS)
        return;
    b->touched = clock_monotonic_ms();
    if (buf_printf(&path, "%s.lock", b->path) == 0 && dotlock_is(b->dotlock_fd, buf_cstr(&path)))
        (void)lockfile_touch(buf_cstr(&path));
}

/* The facts of the file. -EAGAIN: whoever held the lock before us has put another one in its place. */
static int look(struct box *b)
{
    struct stat st;

    if (lstat(b->path, &st) < 0 || fstat(b->fd, &b->facts) < 0 || st.st_dev != b->facts.st_dev ||
        st.st_ino != b->facts.st_ino)
        return -EAGAIN;
    b->has_new = file_is_before(&b->facts.st_atim, &b->facts.st_mtim);
    return 0;
}

static int try_file(struct box *b, unsigned kinds)
{
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
    if ((kinds & BOX_WRITE) && (r = dotlock(b)) < 0)
        return r;
    if ((r = look(b)) < 0) /* who knows the dotlock only may have written until now */
        return r;
    if (kinds & BOX_WRITE)
        file_peek(b, true);
    return 0;
}

/* Is this the file that the path names? */
static bool is_same_file(int fd, const char *path)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && lstat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int open_state(struct box *b, const char *path)
{
    int r;

    b->store->has_key = false; /* the folder may be another one than before, with a key of its own */
    if ((r = store_prepare(b->store)) == 0) {
        b->lock_fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        r = b->lock_fd < 0 ? -errno : 0;
    }
    return r;
}

static int try_state(struct box *b)
{
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    int r;

    if (b->side == NULL)
        return 0;
    if ((r = box_side(b, ".lock", &path)) < 0)
        return r;
    if (b->lock_fd < 0) {
        r = open_state(b, buf_cstr(&path));
        if (r < 0)
            return r == -ENOENT || r == -ENOTDIR ? -EACCES : r; /* not the mailbox is missing */
    }
    if ((r = kernel_lock(b->lock_fd, F_WRLCK, BOX_BYTE_STATE, 1)) < 0)
        return r;
    /* It goes when the mailbox is deleted or renamed: whoever comes later locks another one. */
    if (!is_same_file(b->lock_fd, buf_cstr(&path))) {
        close_fd(&b->lock_fd);
        return -EAGAIN;
    }
    b->held |= BOX_STATE;
    return 0;
}

/* The dotlock first: a keeper that lets it go for us should be done before others look for it behind the kernel's. */
static void release(struct box *b)
{
    undotlock(b);
    file_peek(b, false);
    if (b->held & BOX_STATE)
        (void)kernel_lock(b->lock_fd, F_UNLCK, BOX_BYTE_STATE, 1);
    if (b->held & (BOX_READ | BOX_WRITE))
        (void)kernel_lock(b->fd, F_UNLCK, 0, 0);
    b->held = 0;
}

void box_unlock(struct box *b)
{
    release(b);
    turn_end(b);
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
        release(b);
    return r;
}

static int try_all(const struct box_want *wants, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int r = try_box(wants[i].b, wants[i].kinds);

        if (r == 0)
            continue;
        while (i-- > 0)
            release(wants[i].b);
        return r;
    }
    return 0;
}

/* Tries until `deadline`. */
static int lock_by(const struct box_want *wants, size_t count, int64_t deadline)
{
    const unsigned soon = count == 1 && wants->b->turn > 0 ? WAIT_TURN_US : WAIT_SOON_US;
    int64_t began = clock_monotonic_ms();
    unsigned wait = WAIT_FIRST_US, most;

    for (;;) {
        int r = try_all(wants, count);

        if (r == 0 || r != -EAGAIN || clock_monotonic_ms() >= deadline)
            return r;
        wait_about(wait);
        most = clock_monotonic_ms() - began < WAIT_SOON_MS ? soon : WAIT_MOST_US;
        wait = wait * 2 > most ? most : wait * 2;
    }
}

int box_lock_all(const struct box_want *wants, size_t count, int seconds)
{
    return lock_by(wants, count, clock_monotonic_ms() + (int64_t)seconds * 1000);
}

int box_lock(struct box *b, unsigned kinds)
{
    int64_t deadline = clock_monotonic_ms() + (int64_t)b->store->lock_timeout * 1000;
    int r;

    if (b->store->is_delivery && (kinds & BOX_WRITE))
        turn_take(b, deadline);
    r = lock_by(&(struct box_want){.b = b, .kinds = kinds}, 1, deadline);
    if (r < 0)
        turn_end(b);
    return r;
}
