/*
 * imap: the monitor of an IMAP connection, later its keeper. Root under a super-server, libc only; everything it does
 * is in shared/gate.
 */
#include "handlers/imap/greeting.h"
#include "shared/base/limits.h"
#include "shared/gate/monitor.h"

static int capabilities(const struct monitor *m, const struct monitor_offer *offer, struct buf *out)
{
    const struct imap_offer same = {offer->can_tls, offer->plaintext_allowed, offer->mechanisms};

    (void)m;
    return imap_add_capabilities(&same, out);
}

static int greet(const struct monitor *m, const struct monitor_offer *offer, struct buf *out)
{
    const struct imap_offer same = {offer->can_tls, offer->plaintext_allowed, offer->mechanisms};

    return imap_add_greeting(&same, m->conf->hostname, out);
}

int main(int argc, char **argv)
{
    static const struct monitor_protocol imap = {.service = "imap",
                                                 .ident = "imapd",
                                                 .front = "imap-login",
                                                 .front_account = PRIV_USER_LOGIN,
                                                 .alpn = "imap",
                                                 .greet = greet,
                                                 .capabilities = capabilities,
                                                 .deadline = TIMEOUT_PREAUTH};

    return monitor_main(&imap, "imap-session", argc, argv);
}
