/*
 * One question under way: a c-ares channel of its own, hence a source port of its own, and an id from the kernel. Both
 * make answers hard to forge (RFC 5452).
 */
#ifndef RESOLVE_LOOKUP_H
#define RESOLVE_LOOKUP_H

#include <ares.h>
#include <poll.h>
#include <stdbool.h>

#include "handlers/resolve/convert.h"

#define LOOKUP_SOCKETS ARES_GETSOCK_MAXNUM

/* The servers that are asked, and how. */
struct servers {
    struct ares_addr_port_node *list; /* of c-ares */
    bool is_local;                    /* all of them on this machine: their AD bit is believed */
};

/* From an argument, "127.0.0.1 [::1]:5353 ...", or, when that is NULL, from /etc/resolv.conf. Before the sandbox. 0 or
 * a negative errno. */
int servers_find(const char *argument, struct servers *ret);
void servers_finish(struct servers *s);

struct lookup {
    bool is_open;
    bool is_done; /* the answer is there */
    bool is_again;
    uint32_t id;
    enum dns_type type;
    int64_t deadline;
    const struct servers *servers;
    ares_channel channel;
    struct convert_chain chain;
    struct dns_answer answer;
};

/* Sends the first packet. Never fails: what cannot be asked is done at once. The struct must not move. */
void lookup_start(struct lookup *l, const struct servers *servers, const struct dns_ask *ask);

/* The sockets it waits for; returns how many of the LOOKUP_SOCKETS places it took. */
size_t lookup_sockets(const struct lookup *l, struct pollfd *out);

/* Milliseconds until something is to be done without a packet, at most `most`. */
int lookup_timeout(const struct lookup *l, int most);

/* Handles what poll() found in the `count` places from lookup_sockets(), and time. */
void lookup_process(struct lookup *l, const struct pollfd *found, size_t count);

void lookup_finish(struct lookup *l);

#endif
