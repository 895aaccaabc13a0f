/*
 * seccomp allow-lists, one per role. The BPF programs are made at build time (sandbox_gen.c, libseccomp), so that
 * nothing has to be compiled and no library loaded per connection. A system call that is not on the list kills the
 * process (tls and resolve: opening files fails with EACCES instead, since their libraries try that and go on). Builds
 * with sanitizers have no filter, since the sanitizers' own calls are not ours to list.
 */
#ifndef GATE_SANDBOX_H
#define GATE_SANDBOX_H

#include <stdbool.h>

enum sandbox_role {
    SANDBOX_LOGIN,   /* imap-login, pop3-login, pop2-login, smtp-session: read, write, poll, receive an fd; no open,
                        no socket */
    SANDBOX_TLS,     /* tls after its files are loaded */
    SANDBOX_RELAY,   /* relay-session: also read from a file that it was given; no open, no socket */
    SANDBOX_FETCH,   /* sts: OpenSSL and stream sockets to a web server; no open */
    SANDBOX_RESOLVE, /* resolve: also datagram and stream sockets to ask DNS servers; no open */
};

/* Installs the filter of a role, for good. Needs no_new_privs (priv_confine sets it). 0 or a negative errno. */
int sandbox_enter(enum sandbox_role role);

/* False in builds with sanitizers: for `pennypost check --security`. */
bool sandbox_is_built(void);

#endif
