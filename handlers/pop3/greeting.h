/*
 * POP3's greeting: the monitor says it, or the login stage.
 */
#ifndef POP3_GREETING_H
#define POP3_GREETING_H

#include "shared/base/buf.h"

/* Appends it with its line end; `apop` is "" or the challenge of RFC 1939 7. 0 or a negative errno. */
int pop3_add_greeting(const char *hostname, const char *apop, struct buf *out);

#endif
