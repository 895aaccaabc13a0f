/*
 * PARTIAL (see partial.h). Runs in imap-session as the user.
 */
#include "handlers/imap/partial.h"

/* partial-range = nz-number ":" nz-number / "-" nz-number ":" "-" nz-number (RFC 9394 4) */
int partial_parse(struct parse *p, struct partial *ret)
{
    struct partial range = {.is_wanted = true};
    struct str before;
    int r = parse_space(p);

    before = p->rest;
    range.is_from_end = parse_accept(p, '-');
    if (r >= 0)
        r = parse_nz_number(p, "a range like 1:100 or -1:-100", &range.first);
    if (r >= 0)
        r = parse_char(p, ':', "a range like 1:100 or -1:-100");
    if (r >= 0 && range.is_from_end)
        r = parse_char(p, '-', "a range like 1:100 or -1:-100");
    if (r >= 0)
        r = parse_nz_number(p, "a range like 1:100 or -1:-100", &range.last);
    if (r < 0)
        return r;
    range.text = str_sub(before, 0, before.len - p->rest.len);
    if (range.first > range.last) {
        uint32_t swap = range.first;

        range.first = range.last;
        range.last = swap;
    }
    *ret = range;
    return 0;
}

void partial_bounds(const struct partial *p, uint64_t count, uint64_t *ret_from, uint64_t *ret_end)
{
    uint64_t from = p->first - 1 < count ? p->first - 1 : count, end = p->last < count ? p->last : count;

    *ret_from = p->is_from_end ? count - end : from;
    *ret_end = p->is_from_end ? count - from : end;
}

int partial_take(const struct partial *p, const struct numset *all, struct numset *ret)
{
    uint64_t from, end, at = 0;
    int r = 0;

    partial_bounds(p, numset_size(all), &from, &end);
    for (size_t i = 0; i < all->count && at < end && r >= 0; i++) {
        const struct numrange *range = &all->ranges[i];
        uint64_t size = (uint64_t)range->last - range->first + 1;
        uint64_t skip = from > at ? from - at : 0, take = end - at < size ? end - at : size;

        if (skip < take)
            r = numset_add(ret, range->first + (uint32_t)skip, range->first + (uint32_t)(take - 1));
        at += size;
    }
    return r;
}
