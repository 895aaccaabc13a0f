/*
 * The table of running children and where their connections came from: what total and per-source limits count.
 */
#ifndef LISTEN_CHILDREN_H
#define LISTEN_CHILDREN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* Where a connection comes from, as far as limits care: an IPv4 address or an IPv6 /64 network, since one host owns a
 * whole /64. A peer without an address (a unix socket) has length 0 and is not counted per source. */
struct source {
    uint8_t len; /* 0, 4 or 8 */
    uint8_t bytes[8];
};

struct child {
    pid_t pid;
    struct source source;
};

struct children {
    struct child *rows; /* unordered, `count` of `max` used */
    size_t count;
    size_t max;
};

/* Room for `max` children. 0 or -ENOMEM. */
int children_init(struct children *c, size_t max);
void children_finish(struct children *c);

/* Remembers a child. -ENOBUFS when the table is full. */
int children_add(struct children *c, pid_t pid, struct source source);

/* Forgets it. -ENOENT: not one of ours. */
int children_remove(struct children *c, pid_t pid);

/* Children whose connection came from `source`; 0 for the source of length 0. */
size_t children_from(const struct children *c, struct source source);

/* The source of a peer address; an IPv4-mapped IPv6 address counts as IPv4. */
struct source source_of(const struct sockaddr *sa, socklen_t len);

#endif
