/*
 * pop3-login: POP3 before login. Starts as root or as the user who tries things out, gives everything up at once, then
 * reads and writes the client's connection (fd 0) and the monitor's socket (fd 3).
 */
#include <fcntl.h>
#include <stdio.h>
#include <sysexits.h>

#include "handlers/pop3/login.h"
#include "shared/gate/confine.h"
#include "shared/gate/session.h"

int main(int argc, char **argv)
{
    static const struct priv_confinement limits = {
        .account = PRIV_USER_LOGIN, .find = priv_account_given, .open_files = 16, .memory = 16u << 20};

    (void)argv;
    if (argc > 1 || fcntl(GATE_CONTROL_FD, F_GETFD) < 0) {
        (void)fputs("pop3-login: pop3(8) starts this; it is of no use by hand\n", stderr);
        return EX_USAGE;
    }
    return confine_enter(POP3_LOGIN.name, &limits, SANDBOX_LOGIN) < 0 ? EX_CONFIG : login_main(&POP3_LOGIN);
}
