/*
 * Writing records into an index, gathered in batches. Internal to index.c and index_put.c.
 */
#ifndef MBOX_INDEX_PUT_H
#define MBOX_INDEX_PUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/mbox/index.h"

#define INDEX_BATCH 512u /* groups are made of whole ones */

/* Records of one group that wait to be written: `first` and up. */
struct index_batch {
    uint64_t first;
    size_t count;
    bool has_rests; /* else their rests stay as they are in the file */
    struct index_brief briefs[INDEX_BATCH];
    uint8_t rests[INDEX_BATCH][INDEX_REST_SIZE];
};

/* Puts a record behind the others or over one of them, with its checksums. 0, -EIO (the old one was damaged), or what
 * writing answers. */
int index_put_record(struct index *ix, uint64_t at, const struct index_record *rec);

/* Writes what is gathered. */
int index_flush_batch(struct index *ix);

/* Moves first_unseen of the header to write up to where it really is. */
int index_find_unseen(struct index *ix);

#endif
