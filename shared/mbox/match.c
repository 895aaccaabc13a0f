/*
 * Hash table of known messages. Part of the library: no process of its own.
 */
#include "shared/mbox/match.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MATCH_KNOWN 1
#define MATCH_TAKEN 2

int match_init(struct match *m, uint64_t count)
{
    uint64_t size = 16;

    if (count >= UINT32_MAX / 2)
        return -EOVERFLOW;
    while (size < count * 2)
        size *= 2;
    *m = (struct match){.count = count, .mask = (uint32_t)(size - 1)};
    m->heads = calloc(size, sizeof(*m->heads));
    m->next = calloc(count + 1, sizeof(*m->next));
    m->state = calloc(count + 1, 1);
    if (m->heads == NULL || m->next == NULL || m->state == NULL) {
        match_finish(m);
        return -ENOMEM;
    }
    return 0;
}

void match_finish(struct match *m)
{
    free(m->heads);
    free(m->next);
    free(m->state);
    *m = (struct match){0};
}

static uint32_t slot_of(const struct match *m, const uint8_t hash[16])
{
    uint32_t n;

    memcpy(&n, hash, sizeof(n));
    return n & m->mask;
}

void match_add(struct match *m, uint64_t position, const uint8_t hash[16])
{
    uint32_t slot = slot_of(m, hash);

    m->next[position] = m->heads[slot];
    m->heads[slot] = (uint32_t)position + 1;
    m->state[position] = MATCH_KNOWN;
}

bool match_find(struct match *m, const uint8_t hash[16], uint32_t uid, const struct match_known *known, uint64_t *ret)
{
    if (m->count == 0)
        return false;
    for (uint32_t *link = &m->heads[slot_of(m, hash)]; *link != 0; link = &m->next[*link - 1]) {
        uint64_t position = *link - 1;

        if (memcmp(known->hash_of(known->context, position), hash, 16) != 0)
            continue;
        if (uid != 0 && known->uid_of(known->context, position) != uid)
            continue;
        *ret = position;
        *link = m->next[position]; /* out of the chain: thousands of equal messages stay cheap */
        m->state[position] = MATCH_TAKEN;
        return true;
    }
    return false;
}

bool match_is_left(const struct match *m, uint64_t position)
{
    return m->state[position] == MATCH_KNOWN;
}

bool match_left(const struct match *m, uint64_t from, uint64_t *ret)
{
    for (; from < m->count; from++) {
        if (m->state[from] == MATCH_KNOWN) {
            *ret = from;
            return true;
        }
    }
    return false;
}

static int by_uid(const void *a, const void *b, void *uids)
{
    uint32_t x = ((const uint32_t *)uids)[*(const uint32_t *)a];
    uint32_t y = ((const uint32_t *)uids)[*(const uint32_t *)b];

    return x < y ? -1 : x > y;
}

int uid_order(uint32_t *uids, uint64_t count, uint32_t **ret)
{
    uint32_t *order;
    bool is_sorted = true;

    for (uint64_t i = 1; is_sorted && i < count; i++)
        is_sorted = uids[i] > uids[i - 1];
    *ret = NULL;
    if (is_sorted)
        return 0;
    order = malloc(count * sizeof(*order));
    if (order == NULL)
        return -ENOMEM;
    for (uint64_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    qsort_r(order, count, sizeof(*order), by_uid, uids);
    *ret = order;
    return 0;
}
