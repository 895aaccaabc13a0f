/*
 * What the admin demands of strangers before he takes their mail: block lists, a name for their address, an honest
 * HELO, a sender who can be answered. All of it is off by default. Part of the monitor; DNS is asked through `resolve`.
 *
 * The questions are asked when the connection begins and when the client has said HELO; the verdict is wanted at the
 * first RCPT, so that it costs little time, the log knows sender and recipient, and postmaster can always be reached
 * (RFC 5321 4.5.1). It holds for the rest of the connection.
 */
#ifndef SMTP_POLICY_H
#define SMTP_POLICY_H

#include <stdbool.h>

#include "shared/base/conf.h"
#include "shared/dns/dns.h"
#include "shared/gate/peer.h"
#include "shared/route/answer.h"

#define POLICY_LISTS 8 /* block lists that are asked */
#define POLICY_NAMES 4 /* names of an address that are checked */

/* The questions. */
enum policy_slot {
    POLICY_PTR,
    POLICY_FORWARD,                              /* the addresses of each name */
    POLICY_HELO = POLICY_FORWARD + POLICY_NAMES, /* A, AAAA, MX */
    POLICY_LIST = POLICY_HELO + 3,
    POLICY_REASON = POLICY_LIST + POLICY_LISTS,
    POLICY_SENDER, /* of the sender's domain: MX, A, AAAA */
    POLICY_SLOTS = POLICY_SENDER + 3,
};

/* One word of `dnsbl`: "zone", "zone=127.0.0.4", "zone=127.0.0.4-11", each with "*weight" behind it. */
struct policy_list {
    struct str zone;
    uint8_t first[4]; /* answers that count: the first three bytes the same, the last one from first[3] to last; */
    uint8_t last;
    bool is_any; /* or all of 127/8 but 127.255/16, where lists tell of errors of their own (RFC 5782 2.1) */
    uint32_t weight;
};

/* -EINVAL: no such word. */
int policy_list_parse(struct str word, struct policy_list *ret);

/* Does this A record of the list count? */
bool policy_list_matches(const struct policy_list *list, const uint8_t address[static 4]);

struct policy {
    const struct conf *conf; /* borrowed */
    bool is_wanted;          /* this kind of port, and some check is on */
    struct dns dns;
    struct dns_question *questions; /* POLICY_SLOTS, NULL until policy_begin() */
    size_t list_count;
    struct policy_list lists[POLICY_LISTS];
    uint8_t address[16];
    size_t address_len;
    char peer[LIMIT_ADDRESS];
    char local[LIMIT_ADDRESS];
    char helo[LIMIT_DOMAIN + 1];
    char name[DNS_NAME_MAX + 1]; /* of the peer, verified forward and back; "" */
    bool is_name_known;          /* whether there is one has been found out */
    bool is_settled;
    struct smtp_answer verdict;           /* when settled */
    char sender_domain[DNS_NAME_MAX + 1]; /* that the next one is about, as A-labels; "" none yet */
    struct smtp_answer sender_verdict;
};

/* `is_wanted`: false for submission and LMTP, where nobody is a stranger. */
void policy_init(struct policy *p, const struct conf *conf, bool is_wanted);
void policy_finish(struct policy *p);

/* A client is there, or (XCLIENT, PROXY) another one: asks what is asked about addresses. Exempt: this machine,
 * `networks`, `policy_exempt`, and what is no internet address. */
void policy_begin(struct policy *p, const struct peer *peer);

/* Does HELO matter here: will policy_hello() be of use? */
bool policy_is_active(const struct policy *p);

/* The client's HELO, EHLO. Returns its verified name, "" when there is none or nobody wants to know; waits for it. */
const char *policy_hello(struct policy *p, struct str name);

/* May this client send mail to `mailbox`? True, or false with *ret. `sender` is for the log. */
bool policy_admits(struct policy *p, struct str sender, struct str mailbox, struct smtp_answer *ret);

#endif
