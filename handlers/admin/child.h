/*
 * Starting other programs from `pennypost`: fork and exec, never a shell. They start without blocked
 * signals, whatever their parent blocks.
 */
#ifndef ADMIN_CHILD_H
#define ADMIN_CHILD_H

#include <sys/types.h>

#include "shared/base/buf.h"

/* Runs argv[0] (found in PATH) to its end with `input` on its standard input. Its output and errors go to *output (may
 * be NULL: they are dropped); what does not fit is dropped. The wait status, or a negative errno. */
int child_run(const char *const argv[], struct str input, struct buf *output);

/* Starts argv[0] with a pipe or socket on fd 0 and 1; its standard error goes to `errors` (an fd) or nowhere (-1).
 * *ret_fd is our end, for both directions. 0 or a negative errno. */
int child_start(const char *const argv[], int errors, pid_t *ret_pid, int *ret_fd);

/* Ends what child_start() began: waits a moment, then kills it. */
void child_stop(pid_t pid);

#endif
