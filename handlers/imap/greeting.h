/*
 * IMAP's greeting and the capabilities before login: the monitor says them, or tells the login stage.
 */
#ifndef IMAP_GREETING_H
#define IMAP_GREETING_H

#include <stdbool.h>

#include "shared/base/buf.h"

struct imap_offer {
    bool can_tls;
    bool plaintext_allowed;
    struct str mechanisms; /* blank-separated */
};

/* Appends the capabilities, blank-separated: only what is there, the session announces its own after login. 0 or a
 * negative errno. */
int imap_add_capabilities(const struct imap_offer *offer, struct buf *out);

/* Appends the greeting with its line end. 0 or a negative errno. */
int imap_add_greeting(const struct imap_offer *offer, const char *hostname, struct buf *out);

#endif
