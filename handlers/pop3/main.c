/*
 * pop3: the monitor of a POP3 connection, later its keeper. Root under a super-server, libc only; everything it does
 * is in shared/gate.
 */
#include "handlers/pop3/capa.h"
#include "handlers/pop3/greeting.h"
#include "handlers/pop3/policy.h"
#include "shared/base/limits.h"
#include "shared/gate/monitor.h"

static int greet(const struct monitor *m, const struct monitor_offer *offer, struct buf *out)
{
    (void)offer;
    return pop3_add_greeting(m->conf->hostname, m->apop, out);
}

/* A policy that cannot be read is the session's to report: here it is only not announced. */
static int capabilities(const struct monitor *m, const struct monitor_offer *offer, struct buf *out)
{
    struct pop3_policy policy = {.expire = POP3_EXPIRE_NEVER};
    const char *key;

    (void)offer;
    (void)pop3_policy_read(m->conf, &policy, &key);
    return pop3_add_capabilities(&policy, out);
}

int main(int argc, char **argv)
{
    static const struct monitor_protocol pop3 = {.service = "pop3",
                                                 .ident = "ipop3d",
                                                 .front = "pop3-login",
                                                 .front_account = PRIV_USER_LOGIN,
                                                 .alpn = "pop3",
                                                 .greet = greet,
                                                 .capabilities = capabilities,
                                                 .deadline = TIMEOUT_PREAUTH};

    return monitor_main(&pop3, "pop3-session", argc, argv);
}
