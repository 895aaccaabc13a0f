/*
 * The file that holds a message between the client and the mailboxes: it has no name, so a crash leaves nothing.
 */
#ifndef SMTP_SPOOL_H
#define SMTP_SPOOL_H

#include <stdint.h>

#include "shared/base/conf.h"

/* A fresh file, O_RDWR | O_CLOEXEC, without a name: in the queue folder if that can be written, otherwise in $TMPDIR,
 * /var/tmp or memory. 0 or a negative errno. */
int spool_open(const struct conf *conf, int *ret_fd);

/* The same file with an offset of its own, read-only, at byte 0. */
int spool_reopen(int fd, int *ret_fd);

/* Is there room for a message of `size` bytes? 0, -ENOSPC, or another errno when nobody can tell. */
int spool_has_room(const struct conf *conf, uint64_t size);

#endif
