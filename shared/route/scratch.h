/*
 * The file that holds a message between the client and the mailboxes: it has no name, so a crash leaves nothing.
 */
#ifndef ROUTE_SCRATCH_H
#define ROUTE_SCRATCH_H

#include <stdint.h>

#include "shared/base/conf.h"

/* A fresh file, O_RDWR | O_CLOEXEC, without a name: in the queue folder if that can be written, otherwise in $TMPDIR,
 * /var/tmp or memory. 0 or a negative errno. */
int scratch_open(const struct conf *conf, int *ret_fd);

/* The same with a small message in it, in memory, where it costs no file system anything. */
int scratch_text(const struct conf *conf, struct str text, int *ret_fd);

/* The same file with an offset of its own, read-only, at byte 0. */
int scratch_reopen(int fd, int *ret_fd);

/* Is there room for a message of `size` bytes? 0, -ENOSPC, or another errno when nobody can tell. */
int scratch_has_room(const struct conf *conf, uint64_t size);

#endif
