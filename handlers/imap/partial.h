/*
 * PARTIAL (RFC 9394): one page of a result, counted from its beginning or from its end.
 */
#ifndef IMAP_PARTIAL_H
#define IMAP_PARTIAL_H

#include "handlers/imap/parse.h"
#include "shared/base/numset.h"

struct partial {
    bool is_wanted;
    bool is_from_end;
    uint32_t first; /* 1 is the first result, or the last; first <= last */
    uint32_t last;
    struct str text; /* as the client wrote it; lives as long as the command */
};

/* SP partial-range, behind "PARTIAL". 0 or -EINVAL. */
int partial_parse(struct parse *p, struct partial *ret);

/* Which of `count` results those are: from *ret_from (0 is the first) up to *ret_end; none if they are equal. */
void partial_bounds(const struct partial *p, uint64_t count, uint64_t *ret_from, uint64_t *ret_end);

/* Adds that part of a set in ascending order. 0, -ENOBUFS, -ENOMEM. */
int partial_take(const struct partial *p, const struct numset *all, struct numset *ret);

#endif
