/*
 * The beginning of a connection: greeting, EHLO or HELO, STARTTLS, login.
 */
#ifndef RELAY_HELLO_H
#define RELAY_HELLO_H

#include "handlers/relay/wire.h"

/* Brings the connection to where MAIL can be said, or tells in *ret why not. `trust`: fd of the authorities' file, -1:
 * none. 0 even when it failed; a negative errno is our own trouble (memory). */
int hello_run(struct wire *w, const struct talk_host *host, int trust, struct talk_ready *ret);

/* Says QUIT and hears the answer, without waiting long. */
void hello_quit(struct wire *w);

/* auth.c: logs in by the best mechanism that both sides have. As hello_run(). */
int auth_run(struct wire *w, const struct talk_host *host, struct talk_ready *ret);

#endif
