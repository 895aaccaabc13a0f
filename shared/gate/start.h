/*
 * Who called us. Every connection program (imap, pop3, smtp) begins with start_find(): it makes fds 0, 1 and 2 safe
 * and tells a connection (fd 0 is a connected socket: systemd Accept=yes, inetd nowait, ucspi, listen) from a person (a
 * pipe, a terminal), for whom the session itself is exec'ed.
 */
#ifndef GATE_START_H
#define GATE_START_H

#include <stdbool.h>

#include "shared/base/conf.h"
#include "shared/gate/peer.h"

struct start {
    bool is_connection; /* false: exec the session for the invoking user */
    bool is_gone;       /* a super-server's client that has reset its connection already */
    bool stderr_ok;     /* fd 2 is not the client: for log_open() */
    struct peer peer;
};

/* Opens /dev/null on those of fds 0 to 2 that are closed, replaces fd 2 by /dev/null where it is the client's socket
 * (inetd), sets TCP_NODELAY and keepalive. Only fd 0 matters for a connection.
 * A unix socket without a name of its own counts as a connection only for root or when a super-server named the client
 * in the environment: sshd gives its users such sockets. 0 or a negative errno. */
int start_find(struct start *ret);

#define START_GONE (-1)

/* The beginning of main() of every connection program: conf_init(), conf_args() with its errors told, start_find(),
 * log_open(ident), SIGPIPE ignored, for a connection the configuration's warnings logged. On failure it has said why;
 * the result is then the exit status (sysexits), else 0. START_GONE: there is no client any more, the log says so.
 * `argc` and `argv` lose the common options. */
int start_program(const char *ident, int *argc, char **argv, struct conf *conf, struct start *ret);

/* What the configuration had to say (unknown keys): a line each, to a person on the standard error output, else to the
 * log. `ident` is who says so. */
void start_warn(const char *ident, const struct conf *conf, bool is_person);

/* How a connection program tells wrong arguments: to a person on the standard error output, else to the log. EX_USAGE.
 */
int start_usage(const char *program, const char *arguments, const struct start *start);

/* Replaces this process by `program` (see chain_locate()) for the invoking user: same fds, same environment, the
 * remaining arguments and the configuration handed on. Returns only on failure: the exit status. */
int start_exec_session(const char *program, const struct conf *conf, int argc, char **argv);

#endif
