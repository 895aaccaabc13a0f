/*
 * Finding known messages by their content hash: a table of positions, each of which is taken once. Internal to
 * shared/mbox.
 */
#ifndef MBOX_MATCH_H
#define MBOX_MATCH_H

#include <stdbool.h>
#include <stdint.h>

struct match {
    uint64_t count;
    uint32_t mask;
    uint32_t *heads; /* position + 1, 0: none */
    uint32_t *next;
    uint8_t *state; /* of each position: known, taken */
};

/* For positions 0 to count - 1. */
int match_init(struct match *m, uint64_t count);
void match_finish(struct match *m);

/* Makes a position known by its hash. Of equal hashes the one added last is found first. */
void match_add(struct match *m, uint64_t position, const uint8_t hash[16]);

struct match_known {
    const uint8_t *(*hash_of)(const void *context, uint64_t position);
    uint32_t (*uid_of)(const void *context, uint64_t position);
    const void *context;
};

/* Takes the first position with this hash, or with uid != 0 the one with this hash and this UID. False: none is left.
 */
bool match_find(struct match *m, const uint8_t hash[16], uint32_t uid, const struct match_known *known, uint64_t *ret);

/* Is this position known, and was not taken? */
bool match_is_left(const struct match *m, uint64_t position);

/* The first position from `from` on that is known and was not taken. */
bool match_left(const struct match *m, uint64_t from, uint64_t *ret);

/* The order of UIDs when they do not ascend; freed by the caller. NULL when they do. */
int uid_order(uint32_t *uids, uint64_t count, uint32_t **ret);

#endif
