/*
 * Flag lists that clients send (RFC 9051 2.3.2, 9): STORE, APPEND.
 */
#ifndef IMAP_FLAGS_H
#define IMAP_FLAGS_H

#include "handlers/imap/imap.h"

struct flag_list {
    uint32_t system;      /* bits of enum mbox_flag */
    struct str *keywords; /* in the parser's arena */
    size_t keyword_count;
};

/* Parses a flag-list in parentheses, or flags with blanks between them unless is_list. */
int flags_parse(struct imap *s, bool is_list, struct flag_list *ret);

/* Turns keywords into numbers of the selected mailbox, making new ones if `create`. -ENOSPC: no more keywords. */
int flags_resolve(struct imap *s, const struct flag_list *list, bool create, struct mbox_flags *ret);

/* The bit of a system flag (with its backslash), 0: not one. */
uint32_t flags_system(struct str name);

#endif
