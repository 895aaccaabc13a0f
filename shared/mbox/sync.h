/*
 * Making index records from what the scanner found. Internal to shared/mbox: sync.c and rebuild.c.
 */
#ifndef MBOX_SYNC_H
#define MBOX_SYNC_H

#include "shared/mbox/box.h"
#include "shared/mbox/scan.h"

#define SYNC_LOG_BATCH (256u << 10)
#define SYNC_UID_LEAP  1000000u /* a UID further ahead than this was not given by us */

/* One bringing up to date: whatever it changes gets one new MODSEQ. */
struct sync_op {
    struct index_header *h;
    struct buf *log;
    uint64_t modseq;
    bool is_used; /* something did get it */
    struct box *b;
    uint32_t uidnext; /* as it was: UIDs below were given; 0: not known */
    uint64_t seen;    /* messages in front of this place were seen, so a crash cannot have cut them off */
    int64_t now;
};

/* A message of our own append, still where it was written. */
static inline bool sync_is_in_place(const struct scan_message *m)
{
    return m->has_marker && m->marker.form != INTEROP_FOREIGN && m->marker.offset == m->offset;
}

/* Not a message, but what is left of one of ours (excise.c): it goes. */
static inline bool sync_is_void(const struct box *b, const struct scan_message *m)
{
    return !b->takes_torn && sync_is_in_place(m) && m->marker.form == INTEROP_VOID;
}

/* Does X-IMAPbase name a UID that the state does not know of? Then the state came back from a backup. */
static inline bool sync_is_behind(const struct index_header *h, uint32_t base_validity, uint32_t base_last)
{
    return base_validity == h->uidvalidity && base_last >= h->uidnext && base_last - h->uidnext < SYNC_UID_LEAP;
}

/* What was given since is not given again. False: there is nothing of that kind. */
static inline bool sync_skip_given(struct index_header *h)
{
    bool is_behind = sync_is_behind(h, h->base_validity, h->base_last);

    if (is_behind)
        h->uidnext = h->base_last + 1;
    return is_behind;
}

/* Keyword numbers that it may take. */
static inline int sync_keywords_most(const struct scan_message *m)
{
    return sync_is_in_place(m) ? LIMIT_KEYWORDS : KEYWORDS_FOREIGN;
}

/* The facts of a message as a record; uid is what the file claims. */
int sync_record(struct sync_op *op, const struct scan_message *m, struct index_record *ret);

/* Is the X-UID of a message that is new to us one that may be believed? */
bool sync_uid_is_good(const struct index_header *h, const struct index_record *rec);

/* Gives a new message its UID (h->uidnext grows) and the MODSEQ; logs what the file does not say. */
int sync_new(struct sync_op *op, struct index_record *rec);

/* Takes over from the known record what stays: UID, MODSEQ, our flags with the changes that somebody else made to the
 * file's (these get the MODSEQ). Logs what the file does not say. */
int sync_merge(struct sync_op *op, const struct index_record *known, struct index_record *rec);

/* Writes the gathered log entries when there are many, or all of them durably. */
int sync_log(struct box *b, struct sync_op *op, bool sync);

/* What a look at a grown file has seen: goes into the next header. */
struct sync_proof {
    uint32_t proven; /* as the header has them */
    bool is_sampled;
};

/* Is everything in front of the last known message as it was? -ESTALE: it is not. */
int sync_verify(struct box *b, struct sync_proof *ret);

/* Does the message of this record stand where the index says? -ESTALE: it does not. */
int sync_verify_record(struct box *b, uint64_t at);

/* Reads the whole file and makes a new index. */
int rebuild(struct box *b, bool has_index);

#endif
