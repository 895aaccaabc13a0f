/*
 * A helper program that answers on its standard output and leaves: sign, srs.
 */
#ifndef ROUTE_HELPER_H
#define ROUTE_HELPER_H

#include "shared/base/buf.h"
#include "shared/gate/chain.h"

/* Starts it with its fd 1 replaced by a pipe, appends what it writes, waits for it, and kills it when `timeout_ms` have
 * passed. The exit status, or a negative errno: it did not start, took too long, said more than `out` takes
 * (-EMSGSIZE), or was killed (-EIO). */
int helper_run(const struct chain_spec *spec, int timeout_ms, struct buf *out);

/* The loop in it, for who starts a child in his own way: appends what comes from `fd` to `out`, up to its end, or, if
 * `is_line`, until a piece ends with a line end. 0; -ETIMEDOUT: `deadline` (clock_monotonic_ms()) has passed;
 * -EMSGSIZE, errno of poll(2) and read(2). */
int helper_collect(int fd, int64_t deadline, bool is_line, struct buf *out);

#endif
