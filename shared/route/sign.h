/*
 * DKIM signatures of a message, made by the program `sign` in a process of its own.
 */
#ifndef ROUTE_SIGN_H
#define ROUTE_SIGN_H

#include "shared/base/conf.h"

/* The whole signed message, read from its first byte through an fd of its own, in a file without a name: *ret_fd is
 * read-only, at byte 0, the caller closes it; -1 where no key is for it. 0, or a negative errno: it should have been
 * signed and was not (sign has logged why), so that the message had better wait. */
int sign_copy(const struct conf *conf, int message, int *ret_fd);

#endif
