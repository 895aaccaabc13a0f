/*
 * The making of a new index, shared by rebuild.c (scan, header, writing) and rebuild_identify.c (which message is
 * which). Internal to shared/mbox.
 */
#ifndef MBOX_REBUILD_H
#define MBOX_REBUILD_H

#include "shared/mbox/match.h"
#include "shared/mbox/sync.h"

struct rebuild {
    struct box *b;
    bool has_index; /* b->ix holds what was known */
    struct log_truth truth;
    struct index fresh; /* what the scan found, in the order of the file; this becomes the new index */
    struct index found; /* or the same in another order, and this is what the scan found */
    struct buf log;
    struct sync_op op;
    struct match match;
    uint32_t *uids;        /* of the found messages */
    struct numset claimed; /* UIDs taken from X-UID fields */
    bool is_sorted;        /* they ascend */
    bool has_marker;
    uint64_t base_keywords;
};

/* Loads what the old index or the state log knows. */
int rebuild_load_known(struct rebuild *rb);

/* UID of the known message number i; the context is the struct rebuild. */
uint32_t rebuild_known_uid(const void *context, uint64_t i);

/* Gives every found message its identity: the surest ways first, new ones behind all that are known. */
int rebuild_identify(struct rebuild *rb);

#endif
