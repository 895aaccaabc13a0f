/*
 * Looking at the queue: which entries are meant, and how one is told to people. Used by `pennypost queue` and, for
 * mailq, by smtp.
 */
#ifndef QUEUE_SELECT_H
#define QUEUE_SELECT_H

#include "shared/queue/queue.h"

struct queue_filter {
    const char *user;      /* entries that this user submitted; NULL: everybody's */
    const char *sender;    /* pattern of the envelope's sender, see below; NULL: any */
    const char *recipient; /* pattern of a recipient that is not done; NULL: any */
    bool is_held;          /* only those that the admin holds */
    bool is_deferred;      /* only those that were tried */
};

/* Does the address match? A pattern is an address, a domain or "@domain", or has the wildcards of glob(7); without
 * regard to case. "<>" is the null path. */
bool queue_pattern_matches(const char *pattern, const char *address);

/* Is it one of those that are meant? */
bool queue_filter_matches(const struct queue_filter *f, const struct queue_envelope *e);

/* "pending", "deferred", ...: the words of the envelope file. */
const char *queue_state_name(enum queue_state state);

/* What there is to an entry, in lines: one of the message, one for each recipient that is not done (at most `most`,
 * then how many more). 0, -ENOBUFS, -ENOMEM. */
int queue_print_brief(const char *id, uint64_t size, const struct queue_envelope *e, int64_t now, size_t most,
                      struct buf *out);

/* All of it, for `pennypost queue show`. */
int queue_print_full(const char *id, uint64_t size, const struct queue_envelope *e, int64_t now, struct buf *out);

/* The same as one JSON object (RFC 8259), times as seconds since 1970. */
int queue_print_json(const char *id, uint64_t size, const struct queue_envelope *e, struct buf *out);

/* Appends the brief lines of all entries that match. What cannot be read is counted in *ret_unreadable. 0 or a negative
 * errno; -ENOBUFS: `out` is full, up to a whole entry. */
int queue_list(const struct queue *q, const struct queue_filter *f, int64_t now, struct buf *out, size_t *ret_count,
               size_t *ret_unreadable);

/* Bytes of an entry's message, 0 if it cannot be seen. */
uint64_t queue_message_size(const struct queue *q, const char *id);

#endif
