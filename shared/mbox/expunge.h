/*
 * One expunge. Internal to shared/mbox: expunge.c and expunge_plan.c.
 */
#ifndef MBOX_EXPUNGE_H
#define MBOX_EXPUNGE_H

#include "shared/mbox/journal.h"
#include "shared/mbox/view.h"

struct doomed {
    uint64_t offset;
    uint64_t length;
    uint64_t position; /* record */
};

/* Doomed messages that lie together, and the message behind them when its block changes too. A run of no bytes: only
 * the block of that message becomes shorter. */
struct run {
    uint64_t from;
    uint64_t to;
    uint64_t before; /* bytes taken out in front of it */
    uint64_t at;     /* where the blocks that are given back begin */
    uint64_t cut;    /* bytes taken out here */
    uint64_t next;   /* record of the message behind it, EXPUNGE_NONE: it stays as it is */
    size_t block;    /* length of its new block */
    int64_t room;    /* by which its header grows */
    bool has_base;   /* it is the first of the file now */
};
#define EXPUNGE_NONE UINT64_MAX

struct expunge {
    struct box *b;
    struct doomed *doomed; /* in the order of the file */
    size_t count;
    size_t cap;
    struct numset uids;
    struct run *runs; /* in the order of the file */
    size_t run_count;
    size_t run_cap;
    struct journal_cuts cuts; /* the same in bytes */
    uint64_t new_size;        /* of the file without them */
    bool is_collapse;         /* by giving blocks back; the last run is not among the cuts if it ends with the file */
};

/* Decides what happens to the bytes: runs and cuts. */
int expunge_plan(struct expunge *e);

/* Makes the block of one of the last messages, and so the file, a few bytes longer: the first that stays behind one
 * that goes. All is consistent afterwards, but a plan is to be made anew. -ENOBUFS: it cannot be done, and nothing was
 * begun. */
int expunge_lengthen(struct expunge *e);

/* Where a message that stays will begin. */
uint64_t expunge_place(const struct expunge *e, uint64_t position);

/* Does this message go? */
bool expunge_is_doomed(const struct expunge *e, uint64_t position);

/* The record of a message whose header grew by `room` and has everything in its new block now. */
void expunge_mark(struct index_record *rec, int64_t room, size_t block);

/* Frees what a plan holds. */
void expunge_plan_finish(struct expunge *e);

#endif
