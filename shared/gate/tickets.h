/*
 * The file of TLS session ticket keys that all processes share: made and rotated by whichever monitor comes by.
 */
#ifndef GATE_TICKETS_H
#define GATE_TICKETS_H

#include "shared/base/conf.h"

#define TICKETS_FILE     "tickets"
#define TICKETS_KEY      80    /* bytes of one key, as shared/crypto/server.h reads them */
#define TICKETS_KEYS     3     /* in the file, newest first */
#define TICKETS_LIFETIME 21600 /* seconds for which new tickets are made with the same key */

/* Opens the file in conf->runtime for reading, after giving it a new first key when it is missing, damaged or older
 * than TICKETS_LIFETIME. Keys older than TICKETS_KEYS rotations are gone for good, and with them what could decrypt the
 * sessions of that time. -EACCES and others where we may not write: TLS then works without resumption. */
int tickets_open(const struct conf *conf, int *ret_fd);

#endif
