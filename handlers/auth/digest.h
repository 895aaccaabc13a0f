/*
 * Mechanisms that answer a challenge with an MD5 digest: CRAM-MD5 (RFC 2195) and POP3's APOP (RFC 1939 7). They need
 * the device password itself on our side, so they work only with those that were made for it.
 */
#ifndef AUTH_DIGEST_H
#define AUTH_DIGEST_H

#include "handlers/auth/auth.h"

/* Rows of the mechanism table; see struct mechanism. */
int digest_cram_md5(struct auth *a, unsigned form);
int digest_apop(struct auth *a, unsigned form);

#endif
