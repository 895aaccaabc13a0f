/*
 * The meeting of delivers, see share.h. Runs as the user whose mailbox it is.
 */
#include "handlers/deliver/share.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shared/base/limits.h"
#include "shared/io/frame_types.h"
#include "shared/io/transport.h"

#define SHARE_LOCK "deliver" /* in the state folder; what belongs to a mailbox has a suffix there */

void share_init(struct share *h)
{
    *h = (struct share){.listener = -1, .lock = -1, .link = -1};
}

/* Whoever waits there sees that, and delivers himself. */
static void shut_door(struct share *h)
{
    close_fd(&h->listener);
    close_fd(&h->lock);
}

void share_finish(struct share *h)
{
    while (h->count > 0)
        share_send_away(h, h->count - 1);
    shut_door(h);
    close_fd(&h->link);
}

void share_send_away(struct share *h, size_t guest)
{
    close_fd(&h->guests[guest]);
    h->guests[guest] = h->guests[--h->count];
}

/* Who has a keeper can make the mailbox and its dotlock where the user cannot, and is mended after when he dies: he
 * leaves nothing to who has none. */
static bool is_kept(const struct session *s)
{
    return s->control >= 0;
}

/* The folder by its inode: the same path is another one in another mount namespace. */
static int name_of(const struct session *s, struct sockaddr_un *ret, socklen_t *ret_len)
{
    const char *slash = strrchr(s->inbox, '/');
    size_t room = sizeof(ret->sun_path) - 1;
    char folder[LIMIT_PATHNAME + 1];
    struct stat st;
    int n;

    if (slash == NULL || (size_t)(slash - s->inbox) >= sizeof(folder))
        return -ENAMETOOLONG;
    memcpy(folder, s->inbox, (size_t)(slash - s->inbox) + 1);
    folder[slash - s->inbox + 1] = '\0';
    if (stat(folder, &st) < 0)
        return -errno;
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    n = snprintf(ret->sun_path + 1, room, "pennypost-deliver %u %llx %llx %s %s", (unsigned)geteuid(),
                 (unsigned long long)st.st_dev, (unsigned long long)st.st_ino, is_kept(s) ? "kept" : "alone",
                 slash + 1);
    if (n < 0 || (size_t)n >= room)
        return -ENAMETOOLONG;
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    return 0;
}

/* 0: not the user's. */
static pid_t whose(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid() ? peer.pid : 0;
}

static int open_lock(const struct session *s)
{
    char path[LIMIT_PATHNAME + 1];
    int n = snprintf(path, sizeof(path), "%s/" SHARE_LOCK, s->state);

    return n < 0 || (size_t)n >= sizeof(path) ? -1 : open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/* A lock that belongs to its process: of such a lock the kernel says which that is. A byte for each of the two. */
static struct flock first_lock(const struct session *s)
{
    return (struct flock){.l_type = F_WRLCK, .l_start = is_kept(s) ? 1 : 0, .l_len = 1};
}

/* Taken when the name is ours: nobody else's socket has it while the lock is held. */
static void become_first(struct share *h, const struct session *s, int *fd)
{
    struct flock lock = first_lock(s);
    _cleanup_close_ int file = open_lock(s);

    if (file < 0 || fcntl(file, F_SETLK, &lock) < 0 || listen(*fd, SHARE_GUESTS) < 0)
        return;
    h->lock = steal_fd(&file);
    h->listener = steal_fd(fd);
}

static bool is_first(const struct session *s, int fd)
{
    struct flock lock = first_lock(s);
    _cleanup_close_ int file = open_lock(s);
    pid_t pid = whose(fd);

    return pid > 0 && file >= 0 && fcntl(file, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid == pid;
}

void share_meet(struct share *h, const struct session *s)
{
    _cleanup_close_ int fd = -1;
    struct sockaddr_un name;
    socklen_t len;

    if (h->listener >= 0 || h->link >= 0 || name_of(s, &name, &len) < 0)
        return;
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (bind(fd, (const struct sockaddr *)&name, len) == 0)
        become_first(h, s, &fd);
    else if (errno == EADDRINUSE && connect(fd, (const struct sockaddr *)&name, len) == 0 && is_first(s, fd))
        h->link = steal_fd(&fd);
}

void share_let_in(struct share *h)
{
    for (int i = 0; i < SHARE_GUESTS && h->listener >= 0; i++) {
        int fd = accept4(h->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                shut_door(h);
            return;
        }
        if (h->count < SHARE_GUESTS && whose(fd) > 0)
            h->guests[h->count++] = fd;
        else
            (void)close(fd);
    }
}

/* Until the first one says something, or leaves. */
static int wait_for_word(const struct share *h)
{
    struct pollfd p[] = {{.fd = h->link, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLRDHUP}};
    char byte;
    int e = transport_poll(p, ARRAY_SIZE(p), -1);

    if (e < 0 || p[0].revents == 0)
        return e < 0 ? e : -EPIPE;
    /* That he has not read what we sent is told once, in place of the end. */
    return recv(h->link, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == ECONNRESET ? -ECONNRESET : 0;
}

int share_hand_over(struct share *h, const struct frame *letter, struct buf *ret_line)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader in;
    struct str line = STR_NULL;
    int e = frame_send(h->link, letter, letter->fd);

    e = e < 0 ? -ECONNRESET : wait_for_word(h);
    if (e == 0) {
        e = frame_recv(h->link, &f, 0);
        in = frame_read(&f);
        if (e < 0 || f.type != FRAME_DELIVER_VERDICT || frame_get_str(&in, ret_line->max, &line) < 0)
            e = -ENODATA;
    }
    if (e < 0)
        close_fd(&h->link);
    else
        e = line.len == 0 ? -EAGAIN : buf_add_str(ret_line, line);
    return e;
}
