/*
 * One DNS answer, and the frames in which `resolve` gives it to the process that asked. Both ends use this file; the
 * asker believes nothing of a frame: every count, length, number and name is checked again by dns_answer_decode().
 */
#ifndef DNS_ANSWER_H
#define DNS_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/limits.h"
#include "shared/io/frame.h"

/* What can be asked for: the numbers of IANA's registry. */
enum dns_type {
    DNS_A = 1,
    DNS_CNAME = 5, /* only this one is not followed through aliases */
    DNS_PTR = 12,
    DNS_MX = 15,
    DNS_TXT = 16,
    DNS_AAAA = 28,
    DNS_TLSA = 52,
};

enum dns_status {
    DNS_OK,       /* there are records */
    DNS_NODATA,   /* the name exists, without such records */
    DNS_NXDOMAIN, /* the name does not exist */
    DNS_FAILED,   /* nobody could say: time-out, SERVFAIL, garbage, a loop of aliases; always worth another try later */
};

struct dns_record {
    uint16_t preference; /* MX */
    uint8_t usage;       /* TLSA, RFC 6698 2.1 */
    uint8_t selector;
    uint8_t matching;
    /* A, AAAA: 4 or 16 bytes. MX, PTR, CNAME: a name, dns_name_is_host(); for an MX also "", the root (RFC 7505).
     * TXT: the joined strings, any bytes. TLSA: the association data. */
    struct str data;
};

struct dns_answer {
    enum dns_status status;
    bool is_secure;       /* validated by DNSSEC at every step, said by a resolver on this machine (RFC 7672 2.1.1) */
    uint32_t ttl;         /* seconds, the smallest of the chain */
    struct str canonical; /* owner of the records at the end of the chain of aliases; "" where that is no host name */
    struct str reason;    /* DNS_FAILED: words for the log */
    size_t count;
    struct dns_record records[LIMIT_DNS_RECORDS];
    struct buf memory; /* what the views look into */
};

#define DNS_ANSWER_INIT ((struct dns_answer){.status = DNS_FAILED, .memory = BUF_INIT(LIMIT_FRAME)})

/* Frees what an answer holds; one that is DNS_ANSWER_INIT, too. */
void dns_answer_finish(struct dns_answer *a);

/* Is it one of enum dns_type? */
bool dns_type_is_known(uint32_t type);

/* FRAME_DNS_QUESTION: u id, u type, s name, u milliseconds. -EBADMSG when a field is wrong. The name is a view. */
struct dns_ask {
    uint32_t id;
    enum dns_type type;
    struct str name;
    uint32_t milliseconds;
};
/* Into a fresh frame, 0 or a negative errno; and back, whatever the other side has put there. */
int dns_ask_encode(const struct dns_ask *q, struct frame *f);
int dns_ask_decode(const struct frame *f, struct dns_ask *ret);

/* FRAME_DNS_ANSWER: u id, u status, u secure (0/1), u ttl, s canonical, s reason, u count, then each record: u
 * preference, u usage, u selector, u matching, s data. -ENOBUFS does not happen within LIMIT_DNS_ANSWER. */
int dns_answer_encode(uint32_t id, const struct dns_answer *a, struct frame *f);

/* The id of an answer, so that the asker finds the question. -EBADMSG. */
int dns_answer_id(const struct frame *f, uint32_t *ret);

/* Takes the payload out of the frame into *ret, which is fresh. -EBADMSG: nothing is taken. */
int dns_answer_decode(struct frame *f, enum dns_type type, struct dns_answer *ret);

#endif
