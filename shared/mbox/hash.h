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
#include <string.h>

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

/* Both halves of the product, one over the other. */
static inline uint64_t mhash_fold(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t low = a0 * b0, mid = a1 * b0 + (low >> 32), other = a0 * b1 + (uint32_t)mid;

    return (other << 32 | (uint32_t)low) ^ (a1 * b1 + (mid >> 32) + (other >> 32));
#endif
}

static inline uint64_t mhash_load(const uint8_t *p)
{
    uint64_t n;

    memcpy(&n, p, sizeof(n));
    return n;
}

/* Four words at once, for the briefs of the index. */
static inline uint64_t mhash_words(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    uint64_t plain = a ^ (b << 1 | b >> 63); /* a factor of zero must not hide the other */
    uint64_t sum = mhash_fold(a ^ 0x2d358dccaa6c78a5u, b ^ 0x8bb84b93962eacc9u) ^
                   mhash_fold(c ^ 0x4b33a62ed433d4a3u, d ^ 0x4d5a2da51de1aa47u);

    plain += c ^ (d << 1 | d >> 63);
    return mhash_fold(sum ^ plain, 0xa0761d6478bd642fu) ^ plain;
}

#define MHASH_SHORT_MOST 128

/* The same for what is as short as a record and looked at by the hundred thousand, up to MHASH_SHORT_MOST bytes, a
 * multiple of four; the seed has 32 bits. Each pair of words has constants of its own, so that their products need not
 * wait for one another. */
static inline uint64_t mhash_short(const void *data, size_t len, uint32_t seed)
{
    static const uint64_t odd[MHASH_SHORT_MOST / 8] = {
        0x2d358dccaa6c78a5u, 0x8bb84b93962eacc9u, 0x4b33a62ed433d4a3u, 0x4d5a2da51de1aa47u,
        0xa0761d6478bd642fu, 0xe7037ed1a0b428dbu, 0x8ebc6af09c88c6e3u, 0x589965cc75374cc3u,
        0x1d8e4e27c47d124fu, 0xeb44accab455d165u, 0x9e3779b97f4a7c15u, 0xbf58476d1ce4e5b9u,
        0x94d049bb133111ebu, 0xd6e8feb86659fd93u, 0xc2b2ae3d27d4eb4fu, 0x165667b19e3779f9u,
    };
    const uint8_t *p = data;
    uint64_t sum = 0, plain = len, word = 0;
    uint32_t half = 0;
    size_t i = 0;

    for (; len >= 16; i += 2, p += 16, len -= 16) {
        uint64_t a = mhash_load(p), b = mhash_load(p + 8);

        sum ^= mhash_fold(a ^ odd[i], b ^ odd[i + 1]);
        plain += a ^ (b << 1 | b >> 63); /* a factor of zero must not hide the other */
    }
    if (len >= 8) {
        word = mhash_load(p);
        p += 8;
        len -= 8;
    }
    if (len >= 4)
        memcpy(&half, p, sizeof(half));
    sum ^= mhash_fold(word ^ odd[i], half ^ odd[i + 1]);
    return mhash_fold(sum ^ plain ^ odd[9], seed ^ odd[1]) ^ plain;
}

#endif
