/*
 * NOTIFY (RFC 5465): what the client wants to hear of, also between commands: of the selected mailbox, and of others.
 *
 * The selected mailbox is watched as under IDLE. The others are looked at once a second: what they were like then is
 * kept, and what has changed is told.
 */
#ifndef IMAP_NOTIFY_H
#define IMAP_NOTIFY_H

#include "handlers/imap/imap.h"

enum notify_event {
    NOTIFY_NEW = 1u << 0,
    NOTIFY_EXPUNGE = 1u << 1,
    NOTIFY_FLAGS = 1u << 2,
    NOTIFY_NAME = 1u << 3,
    NOTIFY_SUBSCRIPTION = 1u << 4,
    NOTIFY_MESSAGES = NOTIFY_NEW | NOTIFY_EXPUNGE | NOTIFY_FLAGS,
};

enum notify_filter {
    NOTIFY_PERSONAL, /* "inboxes" are no others: mail may be delivered to any (RFC 5465 6.3) */
    NOTIFY_SUBSCRIBED,
    NOTIFY_SUBTREE,
    NOTIFY_MAILBOXES,
};

struct notify_group {
    enum notify_filter filter;
    unsigned events;
    char **names; /* of NOTIFY_SUBTREE and NOTIFY_MAILBOXES */
    size_t count;
};

/* What a mailbox was like. */
struct notify_seen {
    char *name;
    unsigned flags;  /* enum mbox_entry_flag */
    unsigned events; /* that the groups ask for */
    bool has_status; /* of its messages */
    bool has_id;
    uint8_t mailboxid[16];
    struct mbox_status status;
    /* What the command in progress has done to its messages: changes, and how many came and went by them. */
    uint32_t own_changes;
    uint64_t own_added;
    uint64_t own_removed;
};

struct notify {
    bool is_selected_told;    /* SELECTED or SELECTED-DELAYED: else nothing of the selected mailbox is told */
    bool is_delayed;          /* SELECTED-DELAYED */
    unsigned selected_events; /* NOTIFY_MESSAGES */
    char *fetch;              /* the items to be sent of new messages, with their parentheses, or NULL */
    struct notify_group *groups;
    size_t group_count;
    struct notify_seen *seen; /* in order of their names */
    size_t seen_count;
    int64_t looked; /* when; ms */
};

#define NOTIFY_LOOK_MS 1000

void notify_free(struct notify *n); /* NULL is fine */

/* The first look at the other mailboxes. 0, or a negative errno; -ENOBUFS: they are too many. */
int notify_begin(struct imap *s);

/* Looks at them again, and tells of what has changed, the client's own doing aside (RFC 5465 5). Without groups it does
 * nothing. */
void notify_look(struct imap *s);

/* The command in progress has changed the messages of this mailbox once: so many came and went by that. */
#define NOTIFY_OWN_ALL UINT64_MAX
void notify_own(struct imap *s, struct str name, uint64_t added, uint64_t removed);

/* The command in progress has created, deleted or renamed this mailbox (`to` is its new name, else null), or changed
 * its subscription; the names live as long as the command. */
void notify_own_name(struct imap *s, enum own_kind kind, struct str name, struct str to);

/* The selected mailbox is going to be left: from now on it is one of the others, as the client knows it. */
void notify_leave(struct imap *s);

/* The STATUS responses that NOTIFY SET STATUS asks for. */
void notify_status(struct imap *s);

/* Is one of these events of the selected mailbox to be told? Without NOTIFY all are. */
bool notify_wants(const struct imap *s, unsigned events);

/* The FETCH responses of new messages first to last, as the client asked for; none of those that it made itself in the
 * command in progress (RFC 5465 5.2). */
void notify_fetch(struct imap *s, uint32_t first, uint32_t last);

#endif
