/*
 * Bytes from here to there and back. Runs in relay-session; nothing of them is parsed.
 */
#include "handlers/relay/turn.h"

#include <errno.h>

#include "shared/base/macros.h"

#define PIECE    (16u << 10)
#define QUIET_MS (15 * 60 * 1000) /* neither side says anything: longer than each of them would wait */

int turn_ask(struct wire *w, struct talk_reply *ret)
{
    wire_command(w, "ATRN");
    return wire_reply(w, TALK_END, ret); /* RFC 2645 5.2.1: ten minutes */
}

/* One piece. 1, 0 at the end, or a negative errno. */
static int carry(struct transport *from, struct transport *to)
{
    char bytes[PIECE];
    ssize_t n = transport_read(from, bytes, sizeof(bytes));
    int r = n > 0 ? transport_write(to, bytes, (size_t)n) : 0;

    return n <= 0 ? (int)n : r < 0 ? r : 1;
}

int turn_carry(struct wire *w, int inner)
{
    struct transport *network = &w->transport, local;
    struct str early = line_buffered(&w->in);
    int r = 1;

    transport_init(&local, inner, inner, 0, network->write_timeout);
    network->deadline = 0;
    if (early.len > 0) /* too early, but ours to decide is not what it means */
        r = transport_write(&local, early.ptr, early.len) < 0 ? -EPIPE : 1;
    while (r > 0) {
        int ready = transport_wait(network, inner, QUIET_MS);

        if (ready <= 0)
            return ready < 0 ? ready : -ETIMEDOUT;
        if (ready & TRANSPORT_OTHER)
            r = carry(&local, network);
        if (r > 0 && (ready & TRANSPORT_INPUT))
            r = carry(network, &local);
    }
    return r;
}
