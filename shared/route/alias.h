/*
 * aliases(5): which names stand for which recipients, and the list syntax that .forward and :include: files share. The
 * text is read by the caller; nothing here touches a file. Pure.
 */
#ifndef ROUTE_ALIAS_H
#define ROUTE_ALIAS_H

#include "shared/base/buf.h"
#include "shared/base/str.h"

#define ALIAS_ITEM 1024 /* one recipient of a list */

enum alias_kind {
    ALIAS_ADDRESS, /* a local name or an address */
    ALIAS_FINAL,   /* "\name": that user's mailbox, whatever else his name may stand for */
    ALIAS_COMMAND, /* "|command" */
    ALIAS_FILE,    /* "/path": appended to */
    ALIAS_INCLUDE, /* ":include:/path" */
};

struct alias_item {
    enum alias_kind kind;
    char text[ALIAS_ITEM]; /* address, command line, path; unquoted, without its mark */
};

/* Takes the next entry off the text of an aliases file: its name and its list, views into it. 0; -ENODATA at the end;
 * -EINVAL: a line that is no entry was skipped, *ret_name is that line. */
int alias_entry(struct str *text, struct str *ret_name, struct str *ret_list);

/* Finds `name` (without regard to case) in the text of an aliases file; *ret is its list, a view into `text`, lines and
 * all. The first entry of a name counts. False: there is none. */
bool alias_find(struct str text, struct str name, struct str *ret);

/* Takes the next item off a list (of an alias, an :include: file or a .forward): items are separated by commas and line
 * ends, a quoted one is one item, lines that begin with # are skipped. 0; -ENODATA at the end; -EINVAL: an item that is
 * none or too long was skipped. */
int alias_next(struct str *list, struct alias_item *ret);

#endif
