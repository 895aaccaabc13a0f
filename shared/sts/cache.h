/*
 * The files in which policies are kept: DOMAIN in conf->sts_cache, lines of "key value". They are ours, but read with
 * the same suspicion as what came from outside.
 */
#ifndef STS_CACHE_H
#define STS_CACHE_H

#include "shared/base/conf.h"
#include "shared/sts/policy.h"

struct sts_entry {
    int64_t fetched; /* seconds since 1970; 0: no policy */
    char id[STS_ID + 1];
    struct sts_policy policy;
    int64_t failed; /* when fetching failed last, 0: it did not since then */
    char failed_id[STS_ID + 1];
};

/* 0; -ENOENT: nothing is kept; other errors: as good as nothing. `domain` is dns_name_is_host(), lower case. */
int sts_cache_read(const struct conf *conf, const char *domain, struct sts_entry *ret);

/* Replaces the file. 0 or a negative errno. */
int sts_cache_write(const struct conf *conf, const char *domain, const struct sts_entry *e);

/* The text of a file, for the two above and their tests. -EINVAL, -ENOBUFS, -ENOMEM. */
int sts_entry_parse(struct str text, struct sts_entry *ret);
int sts_entry_format(const struct sts_entry *e, struct buf *out);

#endif
