/*
 * The listening sockets of `listen`: inherited from systemd or inetd, or bound here.
 */
#ifndef LISTEN_SOCKETS_H
#define LISTEN_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/base/buf.h"
#include "shared/base/str.h"

#define SOCKETS_MAX 32 /* sockets of one service: several addresses in two families */

struct sockets {
    int fds[SOCKETS_MAX]; /* close-on-exec, non-blocking, listening */
    size_t count;
    bool is_inherited; /* somebody else listens on when we leave */
};

/* Takes the sockets that systemd passed (0 and count unchanged when it passed none). Fds that are not listening stream
 * sockets: -EINVAL. Built without libsystemd: does nothing. */
int sockets_from_systemd(struct sockets *s);

/* Takes fd 0 if it is a listening socket (inetd "wait"), and puts /dev/null in its place on 0, 1 and 2. 0 or errno. */
int sockets_from_inetd(struct sockets *s);

/* Binds `ADDR:PORT`, `[V6]:PORT`, `*:PORT` or `PORT` (all addresses of both families), or `/PATH`: a unix socket that
 * everybody may connect to; one that nobody serves any more is replaced. PORT is a number or a name of services(5); 0
 * lets the kernel choose. -EINVAL: not understood; -EEXIST: the path is something else; -EADDRINUSE, -EACCES, ... of
 * bind(2). */
int sockets_bind(struct sockets *s, const char *where);

/* Appends the address of socket i, "127.0.0.1:143" or "[::1]:143". */
int sockets_describe(const struct sockets *s, size_t i, struct buf *out);

/* Closes them all. */
void sockets_finish(struct sockets *s);

/* Tells systemd about a state, "READY=1"; nothing without it. */
void sockets_notify(const char *state);

#endif
