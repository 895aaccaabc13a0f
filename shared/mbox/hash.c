/*
 * Content hash: four independent multiply-and-fold lanes over 64-byte blocks, then a mix of the lanes. Part of the
 * library: no process of its own.
 */
#include "shared/mbox/hash.h"

#include <string.h>

static const uint64_t mhash_odd[8] = {
    0x9e3779b97f4a7c15u, 0xbf58476d1ce4e5b9u, 0x94d049bb133111ebu, 0xd6e8feb86659fd93u,
    0xa0761d6478bd642fu, 0xe7037ed1a0b428dbu, 0x8ebc6af09c88c6e3u, 0x589965cc75374cc3u,
};

/* What mhash_init() makes of the key {0, 0}. */
static const uint64_t mhash_unkeyed[8] = {
    0xd14e54ca07d609dcu, 0x5dd76c4d7d465c3du, 0x16c2fc20ae8dd17fu, 0x3467d59807fb4417u,
    0xef0f3017002111e6u, 0x962b20582e70d95bu, 0x9373af82eb2b99e2u, 0x29b13b45fbf3bd43u,
};

void mhash_init(struct mhash *h, const uint64_t key[2])
{
    *h = (struct mhash){0};
    for (size_t i = 0; i < 8; i++)
        h->lanes[i] = mhash_odd[i] ^ mhash_fold(key[i & 1] ^ mhash_odd[7 - i], mhash_odd[(i + 3) & 7]);
}

/* Two words beside one another: with the compiler's portable vectors. */
typedef uint64_t mhash_pair __attribute__((vector_size(16), may_alias));

static mhash_pair mhash_load_pair(const uint8_t *p)
{
    mhash_pair w;

    memcpy(&w, p, sizeof(w));
    return w;
}

static mhash_pair mhash_beside(uint64_t a, uint64_t b)
{
    mhash_pair w = {a, b};

    return w;
}

/* Each lane pair keeps a sum beside the product, so that a zero factor cannot wipe out what came before it:
 *     a = fold(a ^ even word, sum ^ odd word) + odd word;   sum += even word ^ odd constant
 * The sums need no product. Reckoned in vectors they leave the units around the multiplier to what needs one, which is
 * a fifth faster. */
static void mhash_blocks(uint64_t lanes[8], const uint8_t *p, size_t count)
{
    const mhash_pair odd01 = {mhash_odd[0], mhash_odd[1]}, odd23 = {mhash_odd[2], mhash_odd[3]};
    uint64_t a0 = lanes[0], a1 = lanes[1], a2 = lanes[2], a3 = lanes[3];
    mhash_pair s01 = {lanes[4], lanes[5]}, s23 = {lanes[6], lanes[7]};

    for (; count > 0; count--, p += MHASH_BLOCK) {
        mhash_pair w0 = mhash_load_pair(p), w1 = mhash_load_pair(p + 16);
        mhash_pair w2 = mhash_load_pair(p + 32), w3 = mhash_load_pair(p + 48);
        mhash_pair f01 = s01 ^ mhash_beside(w0[1], w1[1]), f23 = s23 ^ mhash_beside(w2[1], w3[1]);

        a0 = mhash_fold(a0 ^ mhash_load(p), f01[0]) + mhash_load(p + 8);
        a1 = mhash_fold(a1 ^ mhash_load(p + 16), f01[1]) + mhash_load(p + 24);
        a2 = mhash_fold(a2 ^ mhash_load(p + 32), f23[0]) + mhash_load(p + 40);
        a3 = mhash_fold(a3 ^ mhash_load(p + 48), f23[1]) + mhash_load(p + 56);
        s01 += mhash_beside(w0[0], w1[0]) ^ odd01;
        s23 += mhash_beside(w2[0], w3[0]) ^ odd23;
    }
    lanes[0] = a0, lanes[1] = a1, lanes[2] = a2, lanes[3] = a3;
    lanes[4] = s01[0], lanes[5] = s01[1], lanes[6] = s23[0], lanes[7] = s23[1];
}

void mhash_add(struct mhash *h, const void *data, size_t len)
{
    const uint8_t *p = data;

    h->total += len;
    if (h->fill > 0) {
        size_t n = MHASH_BLOCK - h->fill < len ? MHASH_BLOCK - h->fill : len;

        if (n > 0)
            memcpy(h->block + h->fill, p, n);
        h->fill += n;
        p += n;
        len -= n;
        if (h->fill < MHASH_BLOCK)
            return;
        mhash_blocks(h->lanes, h->block, 1);
        h->fill = 0;
    }
    mhash_blocks(h->lanes, p, len / MHASH_BLOCK);
    p += len / MHASH_BLOCK * MHASH_BLOCK;
    len %= MHASH_BLOCK;
    if (len > 0)
        memcpy(h->block, p, len);
    h->fill = len;
}

/* `block`: the bytes behind the last whole one, then zeros. */
static void mhash_finish(uint64_t lanes[8], const uint8_t block[MHASH_BLOCK], uint64_t total, uint64_t ret[2])
{
    uint64_t low = total * mhash_odd[0];
    uint64_t high = total ^ mhash_odd[1];

    mhash_blocks(lanes, block, 1);
    for (size_t i = 0; i < 8; i++) {
        low = mhash_fold(low ^ lanes[i], mhash_odd[i]) + lanes[7 - i];
        high = mhash_fold(high ^ lanes[7 - i], mhash_odd[(i + 5) & 7]) + low;
    }
    ret[0] = mhash_fold(low ^ high, mhash_odd[2]) ^ low;
    ret[1] = high;
}

void mhash_done(const struct mhash *h, uint8_t ret[16])
{
    uint64_t lanes[8], result[2];
    uint8_t block[MHASH_BLOCK] = {0};

    memcpy(lanes, h->lanes, sizeof(lanes));
    memcpy(block, h->block, h->fill);
    mhash_finish(lanes, block, h->total, result);
    memcpy(ret, result, sizeof(result));
}

/* Made for each look at a record: without the state of a stream. */
uint64_t mhash64(const void *data, size_t len)
{
    uint64_t lanes[8], result[2];
    uint8_t block[MHASH_BLOCK] = {0};
    size_t whole = len / MHASH_BLOCK * MHASH_BLOCK;

    memcpy(lanes, mhash_unkeyed, sizeof(lanes));
    mhash_blocks(lanes, data, len / MHASH_BLOCK);
    if (len > whole)
        memcpy(block, (const uint8_t *)data + whole, len - whole);
    mhash_finish(lanes, block, len, result);
    return result[0];
}
