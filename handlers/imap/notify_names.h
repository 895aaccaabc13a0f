/*
 * What NOTIFY tells of mailboxes as such (RFC 5465 5.4, 5.5): names that come and go, subscriptions. Part of notify.c,
 * which looks at them.
 */
#ifndef IMAP_NOTIFY_NAMES_H
#define IMAP_NOTIFY_NAMES_H

#include "handlers/imap/notify.h"

/* Is it this mailbox or one below it? */
bool notify_is_below(struct str name, struct str top);

/* The one of that name, or NULL. */
const struct notify_seen *notify_find(const struct notify_seen *seen, size_t count, struct str name);

/* The mailbox that this one was before, by its MAILBOXID; NULL: it is new. */
const struct notify_seen *notify_old_name(const struct notify *n, const struct notify_seen *m,
                                          const struct notify_seen *now, size_t count);

/* Events that the groups together ask for (RFC 5465 6). */
unsigned notify_events_of(const struct notify *n, struct str name, unsigned flags);

/* Tells what is different now from what was seen and from what the command in progress has made of it. */
void notify_tell_names(struct imap *s, const struct notify_seen *now, size_t count);

#endif
