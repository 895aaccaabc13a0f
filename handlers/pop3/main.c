/*
 * pop3: the monitor of a POP3 connection, later its keeper. Root under a super-server, libc only; everything it does
 * is in shared/gate.
 */
#include "shared/base/limits.h"
#include "shared/gate/monitor.h"

int main(int argc, char **argv)
{
    static const struct monitor_protocol pop3 = {.service = "pop3",
                                                 .ident = "ipop3d",
                                                 .front = "pop3-login",
                                                 .front_account = PRIV_USER_LOGIN,
                                                 .front_takes_conf = true,
                                                 .alpn = "pop3",
                                                 .deadline = TIMEOUT_PREAUTH};

    return monitor_main(&pop3, "pop3-session", argc, argv);
}
