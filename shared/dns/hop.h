/*
 * Where mail for a domain goes next (RFC 5321 5.1 and 5.2, RFC 7505): from MX records, the implicit MX or an address
 * literal to a list of hosts with their addresses, in the order in which they are to be tried. This is the manual for
 * `relay`:
 *
 *   struct hop_self self;                            once per process
 *   struct hop_list list;
 *   struct hop_failure why;
 *   hop_self_find(conf, &self);
 *   r = hop_find(&dns, &self, STR("example.org"), &list, &why);
 *   r == 0          try list.hosts[0].addresses[0], [1], ..., then list.hosts[1]: by preference, equal ones shuffled,
 *                   IPv6 before IPv4, ourselves and everything behind us left out
 *   r == -EAGAIN    a temporary failure: try later; why.enhanced ("4.4.3") and why.text go into the queue's last reply
 *   r == -EHOSTUNREACH  a permanent one: bounce with why.enhanced ("5.1.2", "5.1.10", "5.4.4", "5.4.6") and why.text
 *   r == -ENOMEM
 *   hop_list_finish(&list);
 *
 * A relayhost is not subject to MX lookup: hop_find_host(). "[mail.example.org]" as relays write it is the caller's
 * business. For DANE take each host in turn to dane_find(); the name that MTA-STS matches is host.name.
 */
#ifndef DNS_HOP_H
#define DNS_HOP_H

#include "shared/dns/dns.h"

#define HOP_SELF_ADDRESSES 256 /* of all our interfaces */

struct hop_address {
    uint8_t bytes[16];
    size_t len; /* 4 or 16 */
    char text[LIMIT_ADDRESS];
};

struct hop_host {
    char name[DNS_NAME_MAX + 1];      /* as the MX record has it, lower case; of a literal: "[192.0.2.1]" */
    char canonical[DNS_NAME_MAX + 1]; /* at the end of its aliases; usually the same */
    uint16_t preference;
    bool is_secure; /* DNSSEC: its addresses, with the whole chain of aliases */
    size_t count;
    struct hop_address addresses[2 * LIMIT_DNS_ADDRESSES];
};

enum hop_kind {
    HOP_MX,
    HOP_IMPLICIT, /* no MX records: the domain itself (RFC 5321 5.1) */
    HOP_LITERAL,  /* [192.0.2.1] (RFC 5321 4.1.3): neither DANE nor MTA-STS apply */
    HOP_HOST,     /* hop_find_host() */
};

struct hop_list {
    enum hop_kind kind;
    char domain[DNS_NAME_MAX + 1];    /* what was asked for, lower case */
    char canonical[DNS_NAME_MAX + 1]; /* at the end of its aliases */
    bool is_secure;                   /* DNSSEC: the MX records, or that there are none; HOP_HOST: the admin said so */
    size_t unknown;                   /* hosts left out because their addresses could not be found now */
    size_t count;
    struct hop_host *hosts;
};

struct hop_failure {
    const char *enhanced; /* RFC 3463, RFC 7505: static */
    uint32_t code;        /* of the SMTP reply that says the same: 450, 550, 556 */
    char text[400];       /* one printable line for a report and the log */
};

/* Our own names and addresses: what must not be relayed to. */
struct hop_self {
    const char *hostname; /* conf's */
    size_t count;
    struct hop_address addresses[HOP_SELF_ADDRESSES];
};

/* Asks the kernel for the addresses of all interfaces. Loopback and unspecified addresses are ours without being
 * listed. 0 or a negative errno. */
int hop_self_find(const struct conf *conf, struct hop_self *ret);

/* Is that one of our addresses? */
bool hop_is_own_address(const struct hop_self *self, const struct hop_address *address);

/* The mail route of a domain (its A-labels, where it has others) or of an address literal with its brackets. See above.
 */
int hop_find(struct dns *d, const struct hop_self *self, struct str domain, struct hop_list *ret,
             struct hop_failure *ret_why);

/* A single host, a name or a numeric address without brackets, that the admin named: its addresses, from hosts(5) when
 * it stands there, no MX, no look for loops. The same results. */
int hop_find_host(struct dns *d, struct str host, struct hop_list *ret, struct hop_failure *ret_why);

/* Frees what a list holds. */
void hop_list_finish(struct hop_list *l);

#endif
