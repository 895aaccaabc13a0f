/*
 * Special-use mailboxes (RFC 6154): which mailbox is for drafts, sent mail, junk, trash, the archive. Five are offered
 * to everybody under their usual names: they can be selected and looked at like any other, and the first message makes
 * the file; CREATE ... USE, RENAME and DELETE
 * change that. Kept in one small text file of the state folder, replaced atomically, a line "use TAB name" each; a use
 * without a name is one that the user does not want.
 */
#ifndef IMAP_SPECIAL_H
#define IMAP_SPECIAL_H

#include "handlers/imap/imap.h"

#define SPECIAL_USES 5u

struct special {
    struct buf text;                /* owns the names */
    struct str names[SPECIAL_USES]; /* the mailbox of each use; null: none */
    bool is_default[SPECIAL_USES];  /* by its usual name, not because somebody said so */
};
#define _cleanup_special_ _cleanup_(special_finish)

/* Reads it; a file that is missing or unreadable leaves the usual names. 0, -ENOMEM. */
int special_load(struct imap *s, struct special *sp);
void special_finish(struct special *sp);

/* "\Drafts" and so on. */
const char *special_attribute(unsigned use);

/* The use of an attribute, -ENOENT: not one that a mailbox can be given here. */
int special_use(struct str attribute);

/* The use of a mailbox, or -ENOENT. */
int special_of(const struct special *sp, struct str name);

/* Gives a mailbox a set of uses (bits), takes it away from whichever had them. 0 or a negative errno. */
int special_assign(struct imap *s, struct str name, unsigned uses);

/* Follows a mailbox that was renamed, with those below it, or deleted (to is empty). */
int special_moved(struct imap *s, struct str from, struct str to);

/* Is it one of those that are offered? `imap` is the session; mbox_store_offer() takes this. */
bool special_is_offered(void *imap, struct str name);

#endif
