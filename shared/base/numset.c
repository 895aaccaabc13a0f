#include "shared/base/numset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/limits.h"

void numset_finish(struct numset *set)
{
    free(set->ranges);
    *set = NUMSET_INIT;
}

void numset_clear(struct numset *set)
{
    set->count = 0;
}

static int reserve(struct numset *set, size_t count)
{
    if (count > LIMIT_NUMSET_RANGES)
        return -ENOBUFS;
    if (count <= set->cap)
        return 0;

    size_t cap = set->cap < 8 ? 8 : set->cap * 2;
    struct numrange *ranges = realloc(set->ranges, cap * sizeof(*ranges));

    if (!ranges)
        return -ENOMEM;
    set->ranges = ranges;
    set->cap = cap;
    return 0;
}

/* Index of the first range whose last number is >= n. */
static size_t range_at(const struct numset *set, uint32_t n)
{
    size_t low = 0, high = set->count;

    /* Sets are mostly built in ascending order. */
    if (set->count == 0 || set->ranges[set->count - 1].last < n)
        return set->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (set->ranges[middle].last < n)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Makes `count` ranges at `at` into `replacement` ranges (moving what follows). */
static int splice(struct numset *set, size_t at, size_t count, size_t replacement)
{
    if (replacement > count) {
        int r = reserve(set, set->count - count + replacement);

        if (r < 0)
            return r;
    }
    if (set->count > at + count)
        memmove(set->ranges + at + replacement, set->ranges + at + count,
                (set->count - at - count) * sizeof(*set->ranges));
    set->count = set->count - count + replacement;
    return 0;
}

int numset_add(struct numset *set, uint32_t first, uint32_t last)
{
    if (first == 0 || last == 0)
        return -EINVAL;
    if (first > last) {
        uint32_t swap = first;

        first = last;
        last = swap;
    }

    /* The ranges from `at` to `end` touch or overlap the new one and melt into it. */
    size_t at = range_at(set, first > 1 ? first - 1 : 1), end = at;

    while (end < set->count && (last == UINT32_MAX || set->ranges[end].first <= last + 1)) {
        if (set->ranges[end].first < first)
            first = set->ranges[end].first;
        if (set->ranges[end].last > last)
            last = set->ranges[end].last;
        end++;
    }

    int r = splice(set, at, end - at, 1);

    if (r < 0)
        return r;
    set->ranges[at] = (struct numrange){first, last};
    return 0;
}

int numset_add_set(struct numset *set, const struct numset *other)
{
    for (size_t i = 0; i < other->count; i++) {
        int r = numset_add(set, other->ranges[i].first, other->ranges[i].last);

        if (r < 0)
            return r;
    }
    return 0;
}

int numset_remove(struct numset *set, uint32_t first, uint32_t last)
{
    if (first == 0 || last < first)
        return -EINVAL;

    size_t at = range_at(set, first), end = at;
    struct numrange keep[2];
    size_t kept = 0;

    while (end < set->count && set->ranges[end].first <= last)
        end++;
    if (end == at)
        return 0;
    if (set->ranges[at].first < first)
        keep[kept++] = (struct numrange){set->ranges[at].first, first - 1};
    if (set->ranges[end - 1].last > last)
        keep[kept++] = (struct numrange){last + 1, set->ranges[end - 1].last};

    int r = splice(set, at, end - at, kept);

    if (r < 0)
        return r;
    for (size_t i = 0; i < kept; i++)
        set->ranges[at + i] = keep[i];
    return 0;
}

bool numset_has(const struct numset *set, uint32_t n)
{
    size_t at = range_at(set, n);

    return at < set->count && set->ranges[at].first <= n;
}

uint64_t numset_size(const struct numset *set)
{
    uint64_t size = 0;

    for (size_t i = 0; i < set->count; i++)
        size += (uint64_t)set->ranges[i].last - set->ranges[i].first + 1;
    return size;
}

int numset_print(const struct numset *set, struct buf *out)
{
    int r = 0;

    for (size_t i = 0; i < set->count && r >= 0; i++) {
        const struct numrange *range = &set->ranges[i];

        if (i > 0)
            r = buf_add_byte(out, ',');
        if (r >= 0)
            r = buf_add_u64(out, range->first);
        if (r >= 0 && range->last != range->first) {
            r = buf_add_byte(out, ':');
            if (r >= 0)
                r = buf_add_u64(out, range->last);
        }
    }
    return r;
}

int numset_parse(struct str text, struct numset *set)
{
    bool more = true;

    while (more) {
        struct str item, from;
        uint32_t first, last;

        more = str_cut(&text, ',', &item);

        bool is_range = str_cut(&item, ':', &from);

        if (str_to_u32(from, &first) < 0 || first == 0)
            return -EINVAL;
        last = first;
        if (is_range && (str_to_u32(item, &last) < 0 || last == 0))
            return -EINVAL;

        int r = numset_add(set, first, last);

        if (r < 0)
            return r;
    }
    return 0;
}
