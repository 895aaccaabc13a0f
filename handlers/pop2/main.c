/*
 * pop2: the monitor of a POP2 connection, later its keeper. Root under a super-server, libc only; everything it does
 * is in shared/gate.
 */
#include "shared/base/limits.h"
#include "shared/gate/monitor.h"

static int greet(const struct monitor *m, const struct monitor_offer *offer, struct buf *out)
{
    (void)offer;
    return buf_printf(out, "+ POP2 %s Pennypost ready\r\n", m->conf->hostname);
}

int main(int argc, char **argv)
{
    /* Nobody has registered a protocol name for ALPN; this one keeps clients of other protocols out. */
    static const struct monitor_protocol pop2 = {.service = "pop2",
                                                 .ident = "ipop2d",
                                                 .front = "pop2-login",
                                                 .front_account = PRIV_USER_LOGIN,
                                                 .alpn = "pop2",
                                                 .greet = greet,
                                                 .deadline = TIMEOUT_PREAUTH};

    return monitor_main(&pop2, "pop2-session", argc, argv);
}
