/*
 * Making entries due at once: ETRN (RFC 1985), `sendmail -q`, the admin. They go back to new/, which starts a run.
 */
#ifndef QUEUE_FLUSH_H
#define QUEUE_FLUSH_H

#include "shared/queue/queue.h"

struct queue_flush {
    size_t found; /* entries with somebody of that domain who waits; those that are being worked on are among them */
    size_t woken; /* of these, the ones that were made due */
};

/* For recipients in `domain` (in any case; "@example.org": its subdomains as well, RFC 1985 5.2); an empty one means
 * all. Held entries and those of the future (RFC 4865) stay as they are. What is damaged is passed over. 0 or a
 * negative errno. */
int queue_flush(struct queue *q, struct str domain, int64_t now, struct queue_flush *ret);

/* Would queue_flush() find somebody? Nothing is changed. 1, 0, or a negative errno. */
int queue_has(const struct queue *q, struct str domain, int64_t now);

#endif
