/*
 * Starts `sign`. Runs in relay, as root.
 */
#include "shared/route/sign.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/route/rewrite.h"

int sign_copy(const struct conf *conf, int message, int *ret_fd)
{
    _cleanup_close_ int copy = -1;
    struct stat st;
    int e;

    *ret_fd = -1;
    if (access(conf->dkim_keys, F_OK) < 0 && errno == ENOENT) /* the usual case costs no process */
        return 0;
    e = rewrite_run(conf, "sign", true, message, &copy);
    if (e == 0 && fstat(copy, &st) < 0)
        e = -errno;
    if (e == 0 && st.st_size > 0)
        *ret_fd = steal_fd(&copy);
    return e > 0 ? -EIO : e;
}
