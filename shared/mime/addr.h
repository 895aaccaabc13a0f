/*
 * Address lists of header fields (RFC 5322 3.4 with the obsolete syntax of 4.4), in the form that IMAP's ENVELOPE wants
 * (RFC 9051 7.5.2): name, source route, mailbox, host, with markers around groups. Nothing is too broken: garbage
 * becomes an address with what could be made out, or is skipped.
 */
#ifndef MIME_ADDR_H
#define MIME_ADDR_H

#include <stdbool.h>

#include "shared/base/buf.h"

/* Null views are IMAP's NIL. Start of a group: host null, mailbox is the group's name. End of it: both null. A mailbox
 * without a domain has an empty host view (IMAP has no other way to tell it from a group). */
struct addr {
    struct str name;    /* display name, or the comment behind an address without one; unquoted, not RFC 2047-decoded */
    struct str adl;     /* "@a,@b" */
    struct str mailbox; /* local part, unquoted */
    struct str host;
};

struct addr_list {
    struct addr *items;
    size_t count;
    size_t cap;
    struct buf text; /* owns the strings */
};
#define _cleanup_addr_list_ _cleanup_(addr_list_finish)

/* A zeroed list is empty; init sets the cap of its text. */
void addr_list_init(struct addr_list *l);
void addr_list_finish(struct addr_list *l);
void addr_list_clear(struct addr_list *l); /* keeps the memory */

/* Parses a field body (folds may still be in it) and appends at most LIMIT_ADDRESSES entries. 0, -ENOMEM. */
int addr_parse(struct str body, struct addr_list *list);

/* Only the first entry, if there is any; of a group its start and, with nothing between, its end. 0, -ENOMEM. */
int addr_parse_first(struct str body, struct addr_list *list);

/* The markers around the members of a group (RFC 9051 7.5.2): no host; the mailbox of the first is its name. */
bool addr_is_group_start(const struct addr *a);
bool addr_is_group_end(const struct addr *a);

/* Appends "mailbox@host", the local part quoted where it must be (RFC 5322 3.4.1). Nothing for group markers. */
int addr_print(const struct addr *a, struct buf *out);

#endif
