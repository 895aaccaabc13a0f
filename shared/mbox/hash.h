/*
 * The content hash: 128 bits, keyed, streaming, at the speed of memory. It tells whether two messages are the same one
 * after a foreign program has rewritten the mailbox, and it guards the records of the sidecars against damage. It is
 * not a cryptographic hash: the key (random, one per state folder) is what keeps a sender from making two mails
 * collide.
 */
#ifndef MBOX_HASH_H
#define MBOX_HASH_H

#include <stddef.h>
#include <stdint.h>

#define MHASH_BLOCK 64

struct mhash {
    uint64_t lanes[8];
    uint8_t block[MHASH_BLOCK];
    size_t fill; /* bytes in block */
    uint64_t total;
};

/* Starts with a key of two words; {0, 0} is fine where nobody attacks. */
void mhash_init(struct mhash *h, const uint64_t key[2]);

/* Adds bytes; the result does not depend on how they are cut into pieces. */
void mhash_add(struct mhash *h, const void *data, size_t len);

/* The result; the state may go on being fed. */
void mhash_done(const struct mhash *h, uint8_t ret[16]);

/* All at once, unkeyed, 64 bits: checksums of records. */
uint64_t mhash64(const void *data, size_t len);

#endif
