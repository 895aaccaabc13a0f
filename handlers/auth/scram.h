/*
 * SCRAM, the server's part of the exchange (RFC 5802, RFC 7677, RFC 9266, RFC 5929).
 */
#ifndef AUTH_SCRAM_H
#define AUTH_SCRAM_H

#include "handlers/auth/auth.h"

/* Rows of the mechanism table; see struct mechanism. */
enum scram_form { /* bits; none: SCRAM-SHA-256 */
                  SCRAM_SHA1 = 1,
                  SCRAM_PLUS = 2,
};
int scram_run(struct auth *a, unsigned form);

#endif
