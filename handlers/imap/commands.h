/*
 * The commands of IMAP after login: one table, one function each. A function parses its arguments from s->parse and
 * returns an enum imap_outcome, or a negative errno: -EINVAL from the parser (the driver answers BAD with what was
 * expected), -EMSGSIZE (a literal over the cap), anything else ends the session.
 */
#ifndef IMAP_COMMANDS_H
#define IMAP_COMMANDS_H

#include "handlers/imap/imap.h"
#include "shared/io/dispatch.h"

extern const struct command commands_table[];
extern const size_t commands_count;

/* Appends the capabilities that hold now, "CAPABILITY IMAP4rev1 ...". */
void capability_write(struct imap *s);

/* cmd_basic.c */
int cmd_capability(void *session, struct str arguments);
int cmd_noop(void *session, struct str arguments);
int cmd_logout(void *session, struct str arguments);
int cmd_enable(void *session, struct str arguments);
int cmd_id(void *session, struct str arguments);
int cmd_namespace(void *session, struct str arguments);

/* cmd_select.c */
int cmd_select(void *session, struct str arguments);
int cmd_examine(void *session, struct str arguments);
int cmd_close(void *session, struct str arguments);
int cmd_unselect(void *session, struct str arguments);
int cmd_check(void *session, struct str arguments);
int cmd_expunge(void *session, struct str arguments);

/* cmd_mailbox.c */
int cmd_create(void *session, struct str arguments);
int cmd_delete(void *session, struct str arguments);
int cmd_rename(void *session, struct str arguments);
int cmd_subscribe(void *session, struct str arguments);
int cmd_unsubscribe(void *session, struct str arguments);

/* cmd_list.c, cmd_status.c */
int cmd_list(void *session, struct str arguments);
int cmd_lsub(void *session, struct str arguments);
int cmd_status(void *session, struct str arguments);

/* cmd_fetch.c, cmd_store.c, cmd_search.c, cmd_sort.c */
int cmd_fetch(void *session, struct str arguments);
int cmd_store(void *session, struct str arguments);
int cmd_search(void *session, struct str arguments);
int cmd_sort(void *session, struct str arguments);
int cmd_thread(void *session, struct str arguments);

/* cmd_append.c, cmd_copy.c, cmd_idle.c */
int cmd_append(void *session, struct str arguments);
int cmd_replace(void *session, struct str arguments);
int cmd_copy(void *session, struct str arguments);
int cmd_move(void *session, struct str arguments);
int cmd_idle(void *session, struct str arguments);

/* cmd_notify.c */
int cmd_notify(void *session, struct str arguments);

/* cmd_quota.c */
int cmd_getquota(void *session, struct str arguments);
int cmd_getquotaroot(void *session, struct str arguments);
int cmd_setquota(void *session, struct str arguments);

/* compress.c */
int cmd_compress(void *session, struct str arguments);

#endif
