/*
 * imap: the monitor of an IMAP connection, later its keeper. Root under a super-server, libc only; everything it does
 * is in shared/gate.
 */
#include "shared/base/limits.h"
#include "shared/gate/monitor.h"

int main(int argc, char **argv)
{
    static const struct monitor_protocol imap = {.service = "imap",
                                                 .ident = "imapd",
                                                 .front = "imap-login",
                                                 .front_account = PRIV_USER_LOGIN,
                                                 .alpn = "imap",
                                                 .deadline = TIMEOUT_PREAUTH};

    return monitor_main(&imap, "imap-session", argc, argv);
}
