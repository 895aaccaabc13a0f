/*
 * Places: how many processes may serve one user at the same time. A place is a locked byte of a file that only the
 * monitor's uid can open, so the kernel gives it back when the process ends, however that happens; nothing is counted.
 */
#ifndef GATE_PLACE_H
#define GATE_PLACE_H

#include <sys/types.h>

#include "shared/base/conf.h"

#define PLACE_FILE "places" /* in the run-time folder */

/* Takes one of the `count` places of that uid; it is held while *ret_fd is open. 0; -EAGAIN: all are taken; another
 * negative errno: nobody can tell. */
int place_take(const struct conf *conf, uid_t uid, unsigned count, int *ret_fd);

#endif
