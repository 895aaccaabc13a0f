/*
 * Notes on the terminals of users who are logged in (RFC 821 3.4: SEND, SOML, SAML).
 */
#ifndef SMTP_TERMINAL_H
#define SMTP_TERMINAL_H

#include <stdbool.h>
#include <sys/types.h>

#include "shared/base/clock.h"
#include "shared/base/str.h"

#define TERMINAL_MAX   16          /* terminals of one user that are written to */
#define TERMINAL_LINES 20          /* lines of a message that are shown */
#define TERMINAL_READ  (16u << 10) /* bytes of it that are looked at */

/* Does that user have a terminal that takes messages (mesg(1))? */
bool terminal_is_open(const char *user, uid_t uid);

/* Shows the message in `file` (LF line ends) on each of them: who sent it, its subject, its first lines. What could
 * move the cursor or more is replaced. How many terminals took it, or a negative errno. */
int terminal_show(const char *user, uid_t uid, const char *sender, const struct clock *clock, int file);

#endif
