/*
 * Starts `sign`. Runs in relay, as root.
 */
#include "shared/route/sign.h"

#include <errno.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/route/helper.h"
#include "shared/route/scratch.h"

#define SIGN_MS 120000 /* a message of the largest size from a slow disk */

int sign_message(const struct conf *conf, int message, struct buf *out)
{
    struct chain_spec spec = {CHAIN_SPEC("sign"), .conf = conf, .dies_with_us = true};
    _cleanup_buf_ struct buf fields = BUF_INIT(SIGN_FIELDS_MAX);
    _cleanup_close_ int input = -1;
    int e;

    if (access(conf->dkim_keys, F_OK) < 0 && errno == ENOENT) /* the usual case costs no process */
        return 0;
    e = scratch_reopen(message, &input);
    if (e < 0)
        return e;
    spec.fds[0] = input;
    e = helper_run(&spec, SIGN_MS, &fields);
    return e < 0 ? e : e > 0 ? -EIO : buf_add_str(out, buf_str(&fields));
}
