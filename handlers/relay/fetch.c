/*
 * Fetching our own mail from a provider (RFC 2645), the courier's part. Runs in relay-courier, as root; it reads
 * nothing of what comes: relay-session carries the bytes to `smtp`, which treats them like those of any stranger.
 */
#include <errno.h>
#include <sys/socket.h>

#include "handlers/relay/courier.h"
#include "shared/base/macros.h"

#define ATRN_MS  (15 * 60 * 1000) /* RFC 2645 5.2.1: at least ten minutes */
#define LEAVE_MS (10 * 1000)      /* of smtp, behind the end of its connection */

/* What the provider said, handed on. 1: the connection is turned round. */
static int hear_answer(struct courier *c)
{
    _cleanup_frame_ struct frame f = FRAME_INIT;
    struct frame_reader in;
    struct talk_reply reply;
    int r = frame_recv(c->session.control, &f, ATRN_MS);

    if (r < 0)
        return r;
    in = frame_read(&f);
    if (f.type != FRAME_RELAY_RESULT || talk_get_reply(&in, &reply) < 0 || frame_end(&in) < 0)
        return -EBADMSG;
    r = frame_send(COURIER_CONTROL, &f, -1);
    return r < 0 ? r : reply.code / 100 == 2;
}

/* smtp on the other end of the pair, until it is done. */
static int serve(struct courier *c, int *inner)
{
    struct chain_spec spec = {CHAIN_SPEC("smtp"), .conf = c->conf, .dies_with_us = true};
    struct chain_child smtp = CHAIN_CHILD_NONE;
    int r;

    spec.fds[0] = spec.fds[1] = *inner;
    r = chain_spawn(&spec, &smtp);
    if (r < 0)
        return r;
    close_fd(inner);
    /* relay-session leaves when either side has ended; smtp then sees the end of its input. */
    (void)frame_recv(c->session.control, &c->frame, -1);
    (void)chain_end(&c->session, LEAVE_MS);
    (void)chain_end(&smtp, LEAVE_MS);
    return 0;
}

int courier_pull(struct courier *c)
{
    _cleanup_close_ int theirs = -1, ours = -1;
    _cleanup_frame_ struct frame f = FRAME_INIT;
    int ends[2], r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    theirs = ends[0];
    ours = ends[1];
    frame_begin(&f, FRAME_RELAY_TURN);
    r = frame_send(c->session.control, &f, theirs);
    close_fd(&theirs);
    if (r == 0)
        r = hear_answer(c);
    return r <= 0 ? r : serve(c, &ours);
}
