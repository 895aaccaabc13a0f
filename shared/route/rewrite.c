/*
 * Starts what rewrites messages. Runs in relay and in the monitor of smtp, as root, or as the user who tries them.
 */
#include "shared/route/rewrite.h"

#include <errno.h>
#include <sys/wait.h>

#include "shared/base/macros.h"
#include "shared/gate/chain.h"
#include "shared/route/scratch.h"

static int run(const struct chain_spec *spec)
{
    struct chain_child child = CHAIN_CHILD_NONE;
    int e = chain_spawn(spec, &child), status;

    if (e < 0)
        return e;
    status = chain_end(&child, REWRITE_MS);
    return status < 0 ? status : WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

int rewrite_run(const struct conf *conf, const char *program, bool takes_conf, int message, int *ret_fd)
{
    struct chain_spec spec = {CHAIN_SPEC(program), .conf = takes_conf ? conf : NULL, .dies_with_us = true};
    _cleanup_close_ int input = -1, output = -1;
    int e = scratch_reopen(message, &input);

    if (e == 0)
        e = scratch_open(conf, &output);
    spec.fds[0] = input;
    spec.fds[1] = output;
    if (e == 0)
        e = run(&spec);
    return e != 0 ? e : scratch_reopen(output, ret_fd);
}
