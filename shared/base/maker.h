/*
 * Who made a lock file. liblockfile's say "0", since other nodes and other programs could not judge a process id, and
 * so those of a killed process keep everybody out for five minutes. Ours have a second line, which others do not look
 * at: "pennypost BOOT PID HOST". Sources: /proc/sys/kernel/random/boot_id, uname().
 */
#ifndef BASE_MAKER_H
#define BASE_MAKER_H

#include <stdbool.h>
#include <stddef.h>

#define MAKER_TEXT  160u /* room for what a lock file says, with a NUL */
#define MAKER_STALE 300  /* seconds after which a dotlock that nobody has touched is broken: everybody's rule */

/* What a lock file of this process says. 0; -EOPNOTSUPP: which boot this is cannot be told (no /proc). */
int maker_text(char *ret, size_t *ret_len);

/* Was this lock file made so by a process that is gone: one of this boot that is not there any more, or any of an
 * earlier boot of this host, on a file system that other machines do not write to? Ask only while holding the kernel
 * lock of what it stands for: then whoever shares our boot, but not our process ids, is not in the middle of anything.
 */
bool maker_is_gone(int fd);

#endif
