/*
 * A dotlock that tells who made it. liblockfile's say nothing of their maker ("0"), since other nodes and other
 * programs could not judge a process id; so those of a killed process keep everybody out for five minutes. Ours have a
 * second line, which others do not look at: "pennypost BOOT PID". Internal to shared/mbox.
 */
#ifndef MBOX_DOTLOCK_H
#define MBOX_DOTLOCK_H

#include <stdint.h>

/*
 * One try to make the dotlock `path`. `boot`: store_boot(). Ask for it only while holding the kernel lock of the file:
 * a dotlock that we made in this boot, in a process that is gone, is broken. 0; -EEXIST: somebody has it;
 * -EOPNOTSUPP: it cannot be made in one step here (NFS, no /proc), which is liblockfile's case; -EACCES, -ENOSPC, ...
 */
int dotlock_make(const char *path, uint64_t boot);

#endif
