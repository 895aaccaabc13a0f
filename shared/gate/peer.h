/*
 * Who is at the other end of an fd, as printable numeric addresses: never a name, nothing is looked up.
 */
#ifndef GATE_PEER_H
#define GATE_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/base/str.h"

enum peer_kind {
    PEER_PIPE,  /* no socket: a pipe, a terminal, a file; address "stdin" */
    PEER_LOCAL, /* a unix socket or a pair; address "local" unless a super-server named the client */
    PEER_INET,  /* IPv4 or IPv6; mapped IPv4 addresses are printed as IPv4 */
};

struct peer {
    enum peer_kind kind;
    char address[LIMIT_ADDRESS]; /* of the other side: "192.0.2.1", "2001:db8::1", "fe80::1%eth0", "local", "stdin" */
    char local[LIMIT_ADDRESS];   /* of this side, likewise */
    uint16_t port;               /* of the other side, 0: none */
    uint16_t local_port;
    bool is_loopback; /* both ends are this machine: 127/8, ::1, own address, unix socket, pipe */
};

/* Looks at fd with getpeername. Where the fd is not an internet socket, the client's address is taken from the
 * environment of super-servers (REMOTE_ADDR of systemd and s6, TCPREMOTEIP of ucspi) if it is a valid address, and then
 * is_loopback follows that address. Never fails: what cannot be found out is PEER_PIPE. */
void peer_find(int fd, struct peer *ret);

/* The user whose process is at the other end of a unix socket, by the kernel's word at the time of connect().
 * -EPROTOTYPE: no unix socket. Other negative errnos of getsockopt(2). */
int peer_credentials(int fd, uid_t *ret_uid);

/* Fills a peer from two socket addresses. */
void peer_from_sockaddr(const struct sockaddr_storage *remote, const struct sockaddr_storage *local, struct peer *ret);

/* Fills a peer from text as a PROXY header or XCLIENT gives it. -EINVAL: not a numeric address; *ret is untouched. */
int peer_from_text(struct str address, uint16_t port, struct str local, uint16_t local_port, struct peer *ret);

/* Is `address` inside one of the blank-separated networks, "192.0.2.0/24 2001:db8::/32 ::1 local"? Words that are no
 * network match nothing. */
bool peer_in_networks(const char *address, struct str networks);

#endif
