/*
 * Starts `sign`. Runs in relay, as root.
 */
#include "shared/route/sign.h"

#include <errno.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/route/helper.h"
#include "shared/route/scratch.h"

#define COPY_PIECE (1u << 20)
#define SIGN_MS    120000 /* a message of the largest size from a slow disk */

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

static int write_all(int fd, struct str bytes)
{
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            bytes = str_sub(bytes, (size_t)n, bytes.len);
    }
    return 0;
}

static int copy_all(int from, int to)
{
    off_t at = 0;

    for (;;) {
        ssize_t n = sendfile(to, from, &at, COPY_PIECE);

        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
    }
}

int sign_copy(const struct conf *conf, int message, int *ret_fd)
{
    _cleanup_buf_ struct buf fields = BUF_INIT(SIGN_FIELDS_MAX);
    _cleanup_close_ int copy = -1;
    int e = sign_message(conf, message, &fields);

    *ret_fd = -1;
    if (e < 0 || fields.len == 0)
        return e;
    e = scratch_open(conf, &copy);
    if (e == 0)
        e = write_all(copy, buf_str(&fields));
    if (e == 0)
        e = copy_all(message, copy);
    return e < 0 ? e : scratch_reopen(copy, ret_fd);
}
