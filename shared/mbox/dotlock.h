/*
 * A dotlock that tells who made it (shared/base/maker.h). Internal to shared/mbox.
 */
#ifndef MBOX_DOTLOCK_H
#define MBOX_DOTLOCK_H

/*
 * One try to make the dotlock `path`. Ask for it only while holding the kernel lock of the file: one that was made so
 * in this boot, in a process that is gone, is broken. 0; -EEXIST: somebody has it; -EOPNOTSUPP: it cannot be made in
 * one step here (NFS, no /proc), which is liblockfile's case; -EACCES, -ENOSPC, ...
 */
int dotlock_make(const char *path);

#endif
