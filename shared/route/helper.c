/*
 * Runs helpers. In relay and in the monitor of smtp, as root, or as the user who tries them.
 */
#include "shared/route/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/base/macros.h"

#define LEAVE_MS 5000 /* behind the end of its output */

int helper_collect(int fd, int64_t deadline, bool is_line, struct buf *out)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = deadline - clock_monotonic_ms();
        char bytes[4096];
        ssize_t n;

        if (left <= 0)
            return -ETIMEDOUT;
        if (poll(&p, 1, (int)left) < 0 && errno != EINTR)
            return -errno;
        if (!p.revents)
            continue;
        n = read(fd, bytes, sizeof(bytes));
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && buf_add(out, bytes, (size_t)n) < 0)
            return -EMSGSIZE;
        if (n > 0 && is_line && bytes[n - 1] == '\n')
            return 0;
    }
}

int helper_run(const struct chain_spec *spec, int timeout_ms, struct buf *out)
{
    struct chain_child child = CHAIN_CHILD_NONE;
    _cleanup_close_ int reader = -1, writer = -1;
    struct chain_spec with_pipe = *spec;
    int ends[2], status, e;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    reader = ends[0];
    writer = ends[1];
    with_pipe.fds[1] = writer;
    e = chain_spawn(&with_pipe, &child);
    close_fd(&writer);
    if (e < 0)
        return e;
    e = helper_collect(reader, clock_monotonic_ms() + timeout_ms, false, out);
    status = chain_end(&child, e < 0 ? 0 : LEAVE_MS);
    if (e == 0 && status < 0)
        e = status;
    return e < 0 ? e : WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}
