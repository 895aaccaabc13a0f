/*
 * struct numset: a set of numbers 1 to 2^32-1 as sorted, disjoint, non-adjacent ranges: UIDs, message sequence numbers.
 * Memory grows with the number of ranges, which is capped by LIMIT_NUMSET_RANGES.
 */
#ifndef BASE_NUMSET_H
#define BASE_NUMSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"

struct numrange {
    uint32_t first;
    uint32_t last; /* inclusive, >= first */
};

struct numset {
    struct numrange *ranges;
    size_t count;
    size_t cap;
};

#define NUMSET_INIT ((struct numset){0})
#define _cleanup_numset_ _cleanup_(numset_finish)

/* Frees the memory and leaves an empty set. */
void numset_finish(struct numset *set);

/* Length 0, memory kept. */
void numset_clear(struct numset *set);

/* Adds first to last (either order; 0 is -EINVAL). 0, -ENOBUFS over the limit, -ENOMEM. Appending in ascending order is
 * O(1), anything else O(ranges). */
int numset_add(struct numset *set, uint32_t first, uint32_t last);

/* Adds all of `other`. */
int numset_add_set(struct numset *set, const struct numset *other);

/* Removes first to last. 0, -ENOBUFS (a split over the limit), -ENOMEM. */
int numset_remove(struct numset *set, uint32_t first, uint32_t last);

/* Membership in O(log ranges). */
bool numset_has(const struct numset *set, uint32_t n);

/* How many numbers are in it. */
uint64_t numset_size(const struct numset *set);

/* Writes it as IMAP's sequence-set, "1:3,7" (RFC 9051 9, sequence-set). */
int numset_print(const struct numset *set, struct buf *out);

/* Reads a sequence-set of numbers and ranges, without `*` or `$`. -EINVAL: not one. */
int numset_parse(struct str text, struct numset *set);

#endif
