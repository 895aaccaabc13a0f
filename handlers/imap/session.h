/*
 * The life of one IMAP session: greeting, the loop over commands, the end.
 */
#ifndef IMAP_SESSION_H
#define IMAP_SESSION_H

#include "handlers/imap/imap.h"

/* Sets up *s on two fds for a user whom session_start() has named; conf and who are borrowed. 0, -ENOMEM, ... */
int imap_init(struct imap *s, struct conf *conf, struct session *who, int rfd, int wfd);
void imap_finish(struct imap *s);

/* Serves until the session ends. 0 after LOGOUT, otherwise -ENODATA (end of input), -ETIMEDOUT, ... */
int imap_run(struct imap *s);

/* Closes the selected mailbox, if there is one; its result is that of mbox_close(). */
int imap_deselect(struct imap *s);

#endif
