/*
 * Who made a lock file. liblockfile's say "0", since other nodes and other programs could not judge a process id, and
 * so those of a killed process keep everybody out for five minutes. Ours have a second line, which others do not look
 * at: "pennypost BOOT PID". Source: /proc/sys/kernel/random/boot_id.
 */
#ifndef BASE_MAKER_H
#define BASE_MAKER_H

#include <stdbool.h>
#include <stddef.h>

#define MAKER_TEXT 80u /* room for what a lock file says, with a NUL */

/* What a lock file of this process says. 0; -EOPNOTSUPP: which boot this is cannot be told (no /proc). */
int maker_text(char *ret, size_t *ret_len);

/* Was this lock file made so, in this boot, by a process that is gone? Ask only while holding the kernel lock of what
 * it stands for: then whoever shares our boot, but not our process ids, is not in the middle of anything. */
bool maker_is_gone(int fd);

#endif
