/*
 * The login stages of IMAP, POP3 and POP2 between a hostile monitor and a hostile client: the input is what both say.
 * Everything waits in the sockets before the login stage starts, so that no order of events is left to chance.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handlers/imap/login.h"
#include "handlers/pop2/login.h"
#include "handlers/pop3/login.h"
#include "shared/base/macros.h"
#include "shared/io/frame.h"
#include "tests/fuzz/frames.h"

#define INPUT_MAX  60000  /* less than a socket holds */
#define TEXT_END   '\xff' /* the client's words in the clear, those inside TLS, frames */
#define FRAMES_MAX 40

static const struct fuzz_shape SHAPES[] = {
    {FRAME_LOGIN_START, "ssuuussss"}, {FRAME_TLS_STARTED, ""},   {FRAME_AUTH_CHALLENGE, "us"},
    {FRAME_AUTH_FAILED, "uusss"},     {FRAME_AUTH_DONE, "usss"}, {FRAME_REFUSED, "us"},
    {FRAME_PROXY_WANTED, ""},         {FRAME_HANDOVER, "ss"},
};

#define ROOM 212992 /* bytes, which the kernel doubles: more than the challenges of so many frames make */

struct client {
    int ours;   /* open to the end: what is answered must go somewhere */
    int theirs; /* the side of the login stage */
};

/* A client that has said all of it. */
static struct client client_that_says(struct str text)
{
    int pair[2];
    int room = ROOM;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
        setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) < 0)
        abort();
    if (text.len > 0 && write(pair[1], text.ptr, text.len) != (ssize_t)text.len)
        abort();
    (void)shutdown(pair[1], SHUT_WR);
    return (struct client){.ours = pair[1], .theirs = pair[0]};
}

static const struct login_protocol *protocol_of(uint8_t choice)
{
    static const struct login_protocol *const all[] = {&IMAP_LOGIN, &POP3_LOGIN, &POP2_LOGIN};

    return all[choice % ARRAY_SIZE(all)];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = {(const char *)data, size < INPUT_MAX ? size : INPUT_MAX};
    const struct login_protocol *protocol = protocol_of(fuzz_byte(&in));
    struct str before, after;
    struct client clear, inside;
    int control[2];

    (void)str_cut(&in, TEXT_END, &before);
    (void)str_cut(&in, TEXT_END, &after);
    if (frame_pair(control) < 0 || fcntl(control[1], F_SETFL, O_NONBLOCK) < 0)
        abort();
    clear = client_that_says(before);
    inside = client_that_says(after); /* comes with FRAME_TLS_STARTED */
    for (int i = 0; i < FRAMES_MAX && fuzz_send(&in, SHAPES, ARRAY_SIZE(SHAPES), control[1], inside.theirs); i++)
        ;
    (void)close(inside.theirs);
    if (shutdown(control[1], SHUT_WR) < 0)
        abort();
    (void)login_run(protocol, control[0], clear.theirs);
    (void)close(clear.ours);
    (void)close(inside.ours);
    (void)close(control[0]);
    (void)close(control[1]);
    return 0;
}
