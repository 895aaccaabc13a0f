/*
 * SRS, the sender rewriting scheme: mail that an alias or .forward sends on keeps a sender that SPF (RFC 7208) lets us
 * send as, and whose bounces find the way back.
 *
 *     SRS0=HASH=TT=domain=local@us       we forwarded what local@domain sent
 *     SRS1=HASH=host==H=TT=d=l@us        we forwarded what `host` had forwarded: SRS0=H=TT=d=l@host
 *
 * TT is the day, so that an address serves for a while only; HASH, a keyed one, keeps others from making addresses that
 * we would send to. This is the text of it; keys and hashes are the caller's (program `srs`). Pure.
 */
#ifndef ROUTE_SRS_H
#define ROUTE_SRS_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"

#define SRS_HASH    8  /* letters of a hash: 40 bits of base32, which no mail system's case folding harms */
#define SRS_DAYS    21 /* an address is good for: bounces come within a queue's lifetime, vacations a little later */
#define SRS_ADDRESS 1000

/* Writes the SRS_HASH letters for the text, which is in lower case. 0 or a negative errno. */
typedef int (*srs_hash)(void *context, struct str text, char out[static SRS_HASH]);

struct srs {
    struct str domain; /* ours, for new addresses */
    int64_t now;
    srs_hash hash;
    void *context;
};

/* Is the local part one of SRS? */
bool srs_is_one(struct str local);

/* Appends the address that stands for the sender `local@domain`. -EINVAL: that cannot be one. -ENOBUFS, -ENOMEM, or the
 * hash's error. The caller leaves null senders, and those of our own domains, alone. */
int srs_forward(const struct srs *s, struct str local, struct str domain, struct buf *out);

/* Appends the address that a local part of ours stands for: the sender, or the host that forwarded to us. -EINVAL: it
 * is not complete. -EKEYREJECTED: the hash is wrong. -EKEYEXPIRED: older than SRS_DAYS. */
int srs_reverse(const struct srs *s, struct str local, struct buf *out);

#endif
