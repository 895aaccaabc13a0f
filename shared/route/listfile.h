/*
 * Files that a user wrote and a privileged process must read: .forward, and what it includes. They are opened with that
 * user's rights, so that nobody makes root read, or wait for, what he could not read himself.
 */
#ifndef ROUTE_LISTFILE_H
#define ROUTE_LISTFILE_H

#include <sys/stat.h>

#include "shared/base/buf.h"
#include "shared/gate/priv.h"

/* Appends a regular file to `out`. `user`: whose rights are taken for the call; NULL: our own, as for files of the
 * admin; a process that is not root has only its own. ret_facts may be NULL. 0; -ENOENT; -EINVAL: no regular file;
 * -ELOOP: a file that only /proc/self/fd leads to; -E2BIG: larger than `out` takes; -EPERM: the rights could not be
 * changed; another errno. */
int listfile_read(const char *path, const struct priv_user *user, struct buf *out, struct stat *ret_facts);

/* Is it plain without the user's rights, a dozen system calls to take and to give back, that there is no such file?
 * Only where he could see so himself: the last folder of the path that is there lets him, or everybody, look for names.
 * False: there may be one. No link is followed, so root goes through no folder that the path does not name, but what is
 * mounted there may be asked: this is for paths of the admin's choice. */
bool listfile_is_absent(const char *path, const struct priv_user *user);

/* Do all links and folders on an absolute path belong to root or to that user, and can nobody else say by them which
 * file is meant? What is read without anybody's rights could be any file of his otherwise. */
bool listfile_is_kept(const char *path, uid_t owner);

#endif
