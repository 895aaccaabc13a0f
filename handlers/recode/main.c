/*
 * recode: reads a binary message (RFC 3030) as it came over the wire from the file on fd 0 and writes it to the file on
 * fd 1 with lines, LF line ends, as mailboxes and the queue have them. Started by smtp, mostly as root: gives
 * everything up (own uid, empty root, seccomp) before it reads a byte.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/gate/confine.h"
#include "shared/mime/content.h"
#include "shared/mime/convert.h"

#define MEMORY (64u << 20) /* the structure of a message: LIMIT_MIME_PARTS with their headers */
#define FDS    8

static int run(void)
{
    struct content_file out = {.fd = STDOUT_FILENO, .held = BUF_INIT(CONTENT_PIECE)};
    _cleanup_convert_ struct convert c = {0};
    int r = convert_plan(STDIN_FILENO, CONVERT_LINES, &c);

    if (r == 0 && c.breaks_seal)
        r = -EPERM;
    if (r == 0)
        r = convert_read(STDIN_FILENO, &c, content_write, &out);
    buf_finish(&out.held);
    return r;
}

static int status_of(int r)
{
    switch (r) {
    case 0:
        return EX_OK;
    case -EBADMSG:
        return EX_DATAERR;
    case -ENOTSUP:
        return EX_UNAVAILABLE;
    case -EPERM:
        return EX_NOPERM;
    case -ENOSPC:
    case -EDQUOT:
        return EX_CANTCREAT;
    default:
        return EX_TEMPFAIL;
    }
}

int main(int argc, char **argv)
{
    static const struct priv_confinement confinement = {.account = PRIV_USER_SMTP,
                                                        .find = priv_account_named,
                                                        .open_files = FDS,
                                                        .file_size = RLIM_INFINITY,
                                                        .memory = MEMORY};

    (void)argv;
    if (argc > 1) {
        (void)fputs("usage: recode <FILE >FILE\n", stderr);
        return EX_USAGE;
    }
    log_open("recode", true);
    (void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    if (confine_enter("recode", &confinement, SANDBOX_RELAY) < 0)
        return EX_CONFIG;
    return status_of(run());
}
