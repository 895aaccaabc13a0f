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

#endif
