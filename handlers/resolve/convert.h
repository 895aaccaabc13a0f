/*
 * From the bytes of a DNS packet to records: the only place where DNS packets are parsed. c-ares has matched the packet
 * to our question (address, id, question section) and expands compressed names; everything else is checked here.
 */
#ifndef RESOLVE_CONVERT_H
#define RESOLVE_CONVERT_H

#include <stddef.h>

#include "shared/dns/answer.h"

/* A chain of aliases from packet to packet. */
struct convert_chain {
    char *name;       /* where it has led so far, as c-ares spells names; owned */
    unsigned aliases; /* followed */
    bool is_insecure; /* one packet was not validated: so is all that follows (RFC 7672 2.1.3) */
    uint32_t ttl;
};

void convert_chain_finish(struct convert_chain *c);

enum convert_result {
    CONVERT_DONE,  /* *answer is filled in, DNS_FAILED with a reason for packets that make no sense */
    CONVERT_AGAIN, /* an alias that leads out of this packet: ask for chain->name */
};

/* Looks for records of `type` under chain->name. `trusts_ad`: the resolver that sent it may be believed when it says
 * that data are authentic. */
enum convert_result convert_packet(const unsigned char *packet, size_t len, enum dns_type type, bool trusts_ad,
                                   struct convert_chain *chain, struct dns_answer *answer);

/* Sets DNS_FAILED and why; `reason` is static. */
void convert_fail(struct dns_answer *answer, const char *reason);

#endif
