/*
 * relay-courier: the way to one next hop. It asks the DNS (through resolve), settles which TLS is demanded, connects,
 * starts relay-session on the connection, and hands frames on between that and relay. It runs as root for all that and
 * reads no byte of the network. Deliveries on this machine are its other kind of job.
 */
#ifndef RELAY_COURIER_H
#define RELAY_COURIER_H

#include "handlers/relay/job.h"
#include "shared/dns/dane.h"
#include "shared/dns/hop.h"
#include "shared/gate/chain.h"
#include "shared/route/postman.h"
#include "shared/sts/sts.h"

#define COURIER_CONTROL     3
#define COURIER_PATIENCE_MS (60 * 60 * 1000) /* relay waits for others before it says something */

struct courier {
    struct conf *conf;
    struct job job; /* views into `frame` */
    struct frame frame;
    struct dns dns;
    struct hop_self self;
    struct hop_list hops;
    struct sts_result sts; /* of the domain; mode STS_NONE where it does not apply */
    size_t host, address;  /* the next to be tried */
    unsigned tries;
    bool is_v4_only;
    bool is_trial; /* the policy is only tested: a host that does not do what it says is logged and asked again */
    struct chain_child session;
    struct postmen postmen; /* of a job on this machine: they stay from one message to the next */
    struct talk_reply last; /* why the last try failed */
    char last_host[DNS_NAME_MAX + 1];
    char last_address[LIMIT_ADDRESS];
    struct talk_reply passing; /* with REQUIRETLS: what may be over at the next try; code 0: nothing was */
};

/* way.c: finds the hosts of the job. 0, or -ECANCELED with c->last. */
int courier_find(struct courier *c);

/* way.c: what TLS that host must have. `names` and `records` are filled for *ret to look into. 0, or -ECANCELED with
 * c->last: this host must be passed over. */
int courier_policy(struct courier *c, const struct hop_host *host, struct buf *names, struct dane *records,
                   struct talk_host *ret);

/* way.c: after a try that failed: whether that is final for messages with REQUIRETLS (RFC 8689 4.2.1); changes c->last
 * and c->passing. */
void courier_weigh(struct courier *c);

/* local.c: a message for places on this machine, from FRAME_RELAY_MAIL on. 0 or a negative errno. */
int courier_deliver(struct courier *c, struct frame *mail);

/* fetch.c: the connection is up and the login done: says ATRN, and lets `smtp` have what comes (RFC 2645). Hands the
 * answer to relay. 0 or a negative errno. */
int courier_pull(struct courier *c);

#endif
