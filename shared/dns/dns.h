/*
 * Asking the DNS. The packets are parsed by `resolve`, a process of its own (its own user, empty root, seccomp), which
 * is started with the first question and leaves with the asker. What it says is checked again here. Never ask from a
 * process that strangers talk to; their monitors ask.
 *
 *   struct dns dns;
 *   struct dns_question q[2] = {DNS_QUESTION(DNS_A), DNS_QUESTION(DNS_AAAA)};
 *   dns_init(&dns, conf);
 *   dns_question_name(&q[0], name); dns_question_name(&q[1], name);
 *   dns_ask(&dns, q, 2);                         both at the same time
 *   q[0].answer.status, .records, .count ...
 *   dns_question_finish(&q[0]); ...
 *   dns_finish(&dns);
 *
 * For mail routes see shared/dns/hop.h, for TLSA records shared/dns/dane.h; both ask through this.
 */
#ifndef DNS_DNS_H
#define DNS_DNS_H

#include "shared/base/conf.h"
#include "shared/dns/answer.h"
#include "shared/dns/name.h"
#include "shared/gate/chain.h"

struct dns {
    const struct conf *conf; /* borrowed */
    struct chain_child child;
    unsigned starts;
    uint32_t last_id;
    uint32_t timeout_ms; /* of a question from when it is sent; TIMEOUT_DNS unless the caller changes it */
};

struct dns_question {
    enum dns_type type;
    char name[DNS_NAME_MAX + 1];
    struct dns_answer answer; /* DNS_FAILED until it is there */
    uint32_t id;              /* 0: not under way */
    int64_t deadline;         /* clock_monotonic_ms() */
};

#define DNS_QUESTION(t) ((struct dns_question){.type = (t), .answer = DNS_ANSWER_INIT})

/* Starts nothing yet. */
void dns_init(struct dns *d, const struct conf *conf);

/* Ends `resolve`, with whatever it was doing. */
void dns_finish(struct dns *d);

/* Sets the name (a final dot is dropped). -EINVAL: not letters, digits, hyphens, underscores, or too long: no host
 * and no mail domain has such a name, and asking such a question gives DNS_NXDOMAIN. */
int dns_question_name(struct dns_question *q, struct str name);
void dns_question_finish(struct dns_question *q);

/* Sends a question without waiting. It cannot fail: what cannot be asked has its answer at once, DNS_FAILED with the
 * reason, or DNS_NXDOMAIN without a name. At most LIMIT_DNS_OPEN should be under way. */
void dns_start(struct dns *d, struct dns_question *q);

/* Waits until each of these has its answer or its time is up (DNS_FAILED, "timed out"). Answers to questions that are
 * not among them are dropped: wait for all that are under way together. */
void dns_wait(struct dns *d, struct dns_question *q, size_t count);

/* The same, but it returns as soon as the first `needed` of them have their answers; for the others wait again. */
void dns_wait_first(struct dns *d, struct dns_question *q, size_t count, size_t needed);

/* dns_start() and dns_wait() for any number, LIMIT_DNS_OPEN at a time. */
void dns_ask(struct dns *d, struct dns_question *q, size_t count);

#endif
