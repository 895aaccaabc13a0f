/*
 * Many bytes at a time with the compiler's portable vectors.
 */
#ifndef BASE_LANES_H
#define BASE_LANES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#ifndef LANES
#define LANES 16 /* what the vectors of nearly every processor hold */
#endif

/* The same bytes of text, one by one and as two words, in which "is any of them set?" is quickly asked. */
typedef uint8_t lanes_bytes __attribute__((vector_size(LANES), may_alias));
typedef uint64_t lanes_words __attribute__((vector_size(LANES), may_alias));

/* The LANES bytes at p, which need not be aligned. */
static inline lanes_bytes lanes_load(const uint8_t *p)
{
    lanes_bytes v;

    memcpy(&v, p, sizeof(v));
    return v;
}

/* The same byte in every lane. */
static inline lanes_bytes lanes_splat(uint8_t byte)
{
    lanes_bytes v;

    memset(&v, byte, sizeof(v));
    return v;
}

/* Of a comparison, whose lanes are all ones or all zeros: is it true anywhere? */
static inline bool lanes_any(lanes_bytes v)
{
    lanes_words w = (lanes_words)v;
    uint64_t all = 0;

    for (size_t i = 0; i < LANES / 8; i++)
        all |= w[i];
    return all != 0;
}

/* Of a comparison, a bit for each lane, the first is the lowest. */
static inline uint32_t lanes_bits(lanes_bytes v)
{
#if defined(__SSE2__) && LANES == 16
    return (uint32_t)_mm_movemask_epi8((__m128i)v);
#else
    lanes_words w = (lanes_words)v;
    uint32_t bits = 0;

    /* The product has the lowest bits of eight bytes side by side at its top: no two of its terms meet. */
    for (size_t i = 0; i < LANES / 8; i++)
        bits |= (uint32_t)((le64toh(w[i]) & 0x0101010101010101) * 0x0102040810204080 >> 56) << 8 * i;
    return bits;
#endif
}

/* Of eight lanes of a comparison that is true somewhere: where first. */
static inline size_t lanes_first_word(uint64_t w)
{
    return (size_t)(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_ctzll(w) : __builtin_clzll(w)) / 8;
}

/* Of a comparison that is true somewhere: where first. */
static inline size_t lanes_first(lanes_bytes v)
{
    lanes_words w = (lanes_words)v;
    size_t i = 0;

    while (i + 1 < LANES / 8 && w[i] == 0)
        i++;
    return 8 * i + lanes_first_word(w[i]);
}

/* The sum of all lanes. */
static inline uint64_t lanes_sum(lanes_bytes v)
{
    lanes_words w = (lanes_words)v;
    uint64_t sum = 0;

    for (size_t i = 0; i < LANES / 8; i++) {
        /* Pairs of bytes, in lanes of 16 bits; then those. */
        uint64_t pairs = (w[i] & 0x00ff00ff00ff00ffu) + ((w[i] >> 8) & 0x00ff00ff00ff00ffu);

        sum += (pairs * 0x0001000100010001u) >> 48;
    }
    return sum;
}

#endif
