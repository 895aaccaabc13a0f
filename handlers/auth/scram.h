/*
 * SCRAM, the server's part of the exchange (RFC 5802, RFC 7677, RFC 9266, RFC 5929).
 */
#ifndef AUTH_SCRAM_H
#define AUTH_SCRAM_H

#include "handlers/auth/auth.h"

/* Rows of the mechanism table; see struct mechanism. */
int scram_sha256(struct auth *a);
int scram_sha256_plus(struct auth *a);
int scram_sha1(struct auth *a);
int scram_sha1_plus(struct auth *a);

#endif
