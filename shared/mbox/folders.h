/*
 * Parts of folder handling. Internal to shared/mbox.
 */
#ifndef MBOX_FOLDERS_H
#define MBOX_FOLDERS_H

#include "shared/mbox/box.h"

/* Removes the sidecars of a mailbox that is gone. */
int folders_remove_side(const char *side);

/* Removes the names of sidecars that RENAME has given to those of another mailbox. */
void folders_forget_links(const char *side);

/* Makes the folders directory and the levels above a path. */
int folders_make_parents(struct mbox_store *s, const char *path);

/* The subscriptions: sorted names, NUL-terminated strings owned by the list. */
struct names {
    char **names;
    size_t count;
    size_t cap;
};

/* Adds a copy at the end; 0 or -ENOMEM. Sorted lists are asked and freed by the three below. */
int names_add(struct names *list, struct str name);
void names_sort(struct names *list);
bool names_has(const struct names *list, struct str name);
void names_finish(struct names *list);

/* Reads the subscriptions, and changes one of them. 0 or a negative errno. */
int subscriptions_load(struct mbox_store *s, struct names *ret);
int subscriptions_change(struct mbox_store *s, struct str name, bool subscribed);

#endif
