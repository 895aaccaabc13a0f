/*
 * File systems that other machines write to as well (statfs(2) names the types).
 */
#ifndef BASE_REMOTE_H
#define BASE_REMOTE_H

#include <stdbool.h>
#include <sys/vfs.h>

/* May another machine, or another kernel on this one, write to such a file system? */
bool remote_is_shared(const struct statfs *fs);

#endif
