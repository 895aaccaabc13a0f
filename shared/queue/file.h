/*
 * The system calls of the queue: files that appear whole and durable, or not at all. For shared/queue, and for srs,
 * whose key is such a file; folders are fds, names are ids.
 */
#ifndef QUEUE_FILE_H
#define QUEUE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"

/* Opens a new file without a name in the folder, for reading and writing. */
int queue_file_unnamed(int folder, int *ret_fd);

/* Writes all of `text` at the offset of `fd`. */
int queue_file_write(int fd, struct str text);

/* Copies at most `size` bytes from the beginning of `from` to the offset of `to`. */
int queue_file_copy(int from, int to, uint64_t size);

/* Puts the content of `file` under that name into the folder, durably: by a link where the file has no name yet and
 * lies in the same file system, otherwise as a copy. -EEXIST, or another errno with nothing left behind. */
int queue_file_store(int folder, int file, const char *name);

/* Writes `text` as `name` into `folder`, durably, by way of a file "name.tmp" in `scratch`. `is_fresh`: there must be
 * no such name yet (-EEXIST). On an error what was there before is there still. */
int queue_file_replace(int scratch, int folder, const char *name, struct str text, bool is_fresh);

/* Reads a file whole, behind what `out` has. -ENOENT; -EBADMSG: no plain file, or larger than `out` takes. */
int queue_file_read(int folder, const char *name, struct buf *out);

/* Opens a plain file of ours and takes the lock on it. -EAGAIN: somebody else has it. -ENOENT: there is none, or it was
 * removed while we waited. -EPERM: no plain file of ours. */
int queue_file_lock(int folder, const char *name, int *ret_fd);

/* Removes the ".tmp" files that were last changed before `limit`. The number, or a negative errno. */
int queue_file_sweep(int folder, int64_t limit);

#endif
