/*
 * The user's mailboxes as LIST and LSUB see them: all names with their attributes, and matching against patterns.
 */
#ifndef IMAP_FOLDERS_H
#define IMAP_FOLDERS_H

#include "handlers/imap/imap.h"

struct folder {
    size_t name_at; /* in folders.names */
    size_t name_len;
    unsigned flags; /* enum mbox_entry_flag */
};

struct folders {
    struct folder *items;
    size_t count;
    size_t cap;
    struct buf names;
};
#define _cleanup_folders_ _cleanup_(folders_finish)

void folders_init(struct folders *f);
void folders_finish(struct folders *f);

/* Collects all mailboxes and parents. 0, -ENOBUFS, -ENOMEM, or the store's error. */
int folders_load(struct imap *s, struct folders *f);

/* Adds one at the end. 0, -ENOBUFS, -ENOMEM. */
int folders_add(struct folders *f, struct str name, unsigned flags);

struct str folders_name(const struct folders *f, size_t i);

/* The entry of that name, or -1. */
ptrdiff_t folders_find(const struct folders *f, struct str name);

/* Does the name match the pattern: `*` stands for anything, `%` for anything without "/" (RFC 9051 6.3.9)? */
bool folders_match(struct str pattern, struct str name);

/* The name's parent, empty at the top. */
struct str folders_parent(struct str name);

/* The name that `name` has after a rename of `from`, in the parser's arena; null: it keeps its own. */
struct str folders_renamed(struct parse *p, struct str name, struct str from, struct str to);

#endif
