/*
 * Whose turn it is. However many deliveries want one mailbox, a few at a time try for its locks, often; the others wait
 * for these in a queue of the kernel's. A few, not one: on a busy machine the only one may not be running when the
 * mailbox becomes free. Runs in deliver, as the user; touches NAME.lock in the state folder.
 *
 * Nothing else is held by who waits here, and nobody but deliveries does: it is no more than an order in which they try
 * for the locks that all programs know, and where it cannot be had they do without.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/mbox/box.h"

#define TURN_COUNT 3 /* who works, and two who are ready */
#define LOOK_US    50000

static int lock_byte(int fd, int command, short type, int turn)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = turn, .l_len = 1};

    return fcntl(fd, command, &lock) < 0 ? -errno : 0;
}

static void on_alarm(int number)
{
    (void)number;
}

/* The kernel's wait has no time limit of its own: a timer interrupts it again and again, so that none is missed. */
static int wait_in_line(int fd, int turn, int64_t deadline)
{
    const struct sigaction wake = {.sa_handler = on_alarm}; /* no SA_RESTART */
    const struct itimerval look = {.it_interval = {.tv_usec = LOOK_US}, .it_value = {.tv_usec = LOOK_US}};
    const struct itimerval none = {0};
    struct sigaction before;
    sigset_t set, mask;
    int r;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGALRM);
    if (sigaction(SIGALRM, &wake, &before) < 0)
        return -errno;
    (void)sigprocmask(SIG_UNBLOCK, &set, &mask);
    r = setitimer(ITIMER_REAL, &look, NULL) < 0 ? -errno : -EINTR;
    while (r == -EINTR && clock_monotonic_ms() < deadline)
        r = lock_byte(fd, F_OFD_SETLKW, F_WRLCK, turn);
    (void)setitimer(ITIMER_REAL, &none, NULL);
    (void)sigprocmask(SIG_SETMASK, &mask, NULL);
    (void)sigaction(SIGALRM, &before, NULL);
    return r;
}

void turn_take(struct box *b, int64_t deadline)
{
    int turn = BOX_BYTE_TURN, r = -EAGAIN;

    if (b->turn > 0 || b->lock_fd < 0)
        return;
    for (int i = 0; i < TURN_COUNT && (r == -EAGAIN || r == -EACCES); i++) {
        turn = BOX_BYTE_TURN + i;
        r = lock_byte(b->lock_fd, F_OFD_SETLK, F_WRLCK, turn);
    }
    if (r == -EAGAIN || r == -EACCES) {
        turn = BOX_BYTE_TURN + (int)(getpid() % TURN_COUNT);
        r = wait_in_line(b->lock_fd, turn, deadline);
    }
    if (r == 0)
        b->turn = turn;
}

void turn_end(struct box *b)
{
    if (b->turn > 0 && b->lock_fd >= 0)
        (void)lock_byte(b->lock_fd, F_OFD_SETLK, F_UNLCK, b->turn);
    b->turn = 0;
}
