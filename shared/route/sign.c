/*
 * Starts `sign`. Runs in relay, as root.
 */
#include "shared/route/sign.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/gate/chain.h"
#include "shared/route/scratch.h"

#define SIGN_MS 120000 /* a message of the largest size from a slow disk */

static int run(const struct conf *conf, int message, int copy)
{
    struct chain_spec spec = {CHAIN_SPEC("sign"), .conf = conf, .dies_with_us = true};
    struct chain_child child = CHAIN_CHILD_NONE;
    int e, status;

    spec.fds[0] = message;
    spec.fds[1] = copy;
    e = chain_spawn(&spec, &child);
    if (e < 0)
        return e;
    status = chain_end(&child, SIGN_MS);
    return status < 0 ? status : WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

int sign_copy(const struct conf *conf, int message, int *ret_fd)
{
    _cleanup_close_ int input = -1, copy = -1;
    struct stat st;
    int e;

    *ret_fd = -1;
    if (access(conf->dkim_keys, F_OK) < 0 && errno == ENOENT) /* the usual case costs no process */
        return 0;
    e = scratch_reopen(message, &input);
    if (e == 0)
        e = scratch_open(conf, &copy);
    if (e == 0)
        e = run(conf, input, copy);
    if (e == 0 && fstat(copy, &st) < 0)
        e = -errno;
    return e < 0 || st.st_size == 0 ? e : scratch_reopen(copy, ret_fd);
}
