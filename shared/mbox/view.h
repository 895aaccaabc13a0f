/*
 * The inside of a view. Internal to shared/mbox.
 *
 * A view is a mapping of the index and the set of its records that are not in the view (holes): message numbers are
 * found by counting, there is nothing per message in memory.
 */
#ifndef MBOX_VIEW_H
#define MBOX_VIEW_H

#include "shared/mbox/block.h"
#include "shared/mbox/box.h"

struct view_hole {
    uint64_t first; /* record */
    uint64_t count;
    uint64_t before; /* records in holes before this one */
};

#define VIEW_OWN_MAX     256
#define LIMIT_CACHE_BLOB (128u << 10) /* a larger one is not worth keeping */

struct mbox {
    struct box *b;
    unsigned flags;  /* enum mbox_open_flag */
    struct index ix; /* the mapping that numbers refer to */
    uint64_t nrec;   /* records that were there at the last poll */
    struct view_hole *holes;
    size_t hole_count;
    size_t hole_cap;
    uint64_t hidden;   /* records in holes */
    uint64_t modseq;   /* everything up to it was told */
    uint64_t expunges; /* head.expunges at the last poll that told them */
    uint32_t uidvalidity;
    struct numset recent;
    uint32_t recent_from;       /* read-only: head.recent at the beginning */
    uint64_t own[VIEW_OWN_MAX]; /* MODSEQs that this view made itself */
    size_t own_count;
    struct numset untold; /* UIDs that this view changed before it had told what somebody else had changed in them */
    int watch;            /* inotify, -1: none */
    bool is_watch_tried;
    bool is_watch_whole; /* it tells of everything */
    bool is_damaged;     /* what is mapped cannot be believed: the view is at its end */
    int pop3_fd;         /* holds the maildrop lock */
    int cache_fd;
    uint64_t cache_id;  /* of the file that it is */
    struct block block; /* read-ahead */
    uint8_t *spare;     /* of the last stream, for the next one */
    struct buf cache;   /* bytes of it from cache_at on */
    uint64_t cache_at;
    struct buf cache_put; /* blobs to be written */
    char keyword[LIMIT_KEYWORD + 1];
};

/* The record of message seq, checked. -EINVAL: no such number. */
int view_record(struct mbox *v, uint32_t seq, struct index_record *ret);

/* Its UID alone. */
int view_uid(struct mbox *v, uint32_t seq, uint32_t *ret);

/* Position of message seq in the index; seq is valid. */
uint64_t view_position(const struct mbox *v, uint32_t seq);

/* After an operation on v->b: lets the view see what it changed. */
void view_follow(struct mbox *v);

/* Remembers a MODSEQ of our own, so that poll does not tell it as somebody else's. */
void view_own(struct mbox *v, uint64_t modseq);

/* Is it the MODSEQ of a change that somebody else made since the last poll? */
bool view_is_foreign(const struct mbox *v, uint64_t modseq);

/* Maps the index of v->b for the view. */
int view_map(struct mbox *v);

/* All records that are expunged become holes. */
int view_find_holes(struct mbox *v);
int view_add_hole(struct mbox *v, uint64_t position);

/* Gives back what is kept for reading on: a session that waits needs none of it. */
void view_rest(struct mbox *v);

/* Gives back all of a view, its files closed. */
void view_free(struct mbox *v);

/* Writes the gathered cache blobs. */
int cache_write(struct mbox *v);

/* Drains the watch. */
void watch_drain(struct mbox *v);
void watch_finish(struct mbox *v);

#endif
