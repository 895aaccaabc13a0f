/*
 * Who fetches his mail here by ATRN (RFC 2645): lines "USER DOMAIN...", the file `atrn_customers`. Mail for these
 * domains is taken from everybody and waits in the queue until that user asks for it.
 */
#ifndef ROUTE_CUSTOMERS_H
#define ROUTE_CUSTOMERS_H

#include "shared/base/buf.h"

#define CUSTOMERS_FILE (1u << 20) /* bytes of it */

/* Reads the file into `text`, which needs that room; without the file there are none. 0 or a negative errno. */
int customers_load(const char *path, struct buf *text);

/* Is it a domain of some customer? */
bool customers_have(struct str text, struct str domain);

/* Is it one of that user's? */
bool customers_owns(struct str text, struct str user, struct str domain);

/* Appends all domains of the user, separated by commas; nothing: he has none. 0, -ENOMEM, -ENOBUFS. */
int customers_domains(struct str text, struct str user, struct buf *out);

#endif
