/*
 * Waiting for the client, and telling it meanwhile what happens: IDLE, and between commands what NOTIFY asks for.
 */
#ifndef IMAP_WAIT_H
#define IMAP_WAIT_H

#include "handlers/imap/imap.h"

/* Returns when a line of input begins (0), or with a negative errno; -ESTALE: the client was told that the session
 * ends. is_idle: an IDLE is in progress. Otherwise it waits for nothing but what NOTIFY asks for. */
int wait_for_input(struct imap *s, bool is_idle);

#endif
