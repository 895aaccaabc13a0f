/*
 * Is there room in a mailbox? Asked before the data; deliver asks again, and the disk has the last word.
 */
#ifndef SMTP_ROOM_H
#define SMTP_ROOM_H

#include <stdint.h>

#include "shared/base/conf.h"
#include "shared/route/rcpt.h"

/* For a message of `size` bytes (0: nobody said) in the INBOX of that user: against mailbox_size and the file system's
 * quota. 0, also when nobody can tell; -EDQUOT: not now; -EFBIG: never, it is larger than the mailbox may be. */
int room_in_mailbox(const struct conf *conf, const struct rcpt_target *target, uint64_t size);

#endif
