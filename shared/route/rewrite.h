/*
 * A helper program that makes another file of a message: sign, recode.
 */
#ifndef ROUTE_REWRITE_H
#define ROUTE_REWRITE_H

#include "shared/base/conf.h"

#define REWRITE_MS 120000 /* a message of the largest size from and to a slow disk */

/* Starts it with the message on fd 0, from byte 0, and a fresh file without a name on fd 1 (scratch.h), and waits at
 * most REWRITE_MS. 0: it left with status 0, and *ret_fd is the new file, read-only, at byte 0. Above 0: its exit
 * status. A negative errno: it did not start or was killed (-EIO). `conf` is handed on if `takes_conf`. */
int rewrite_run(const struct conf *conf, const char *program, bool takes_conf, int message, int *ret_fd);

#endif
