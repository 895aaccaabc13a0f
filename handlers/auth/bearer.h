/*
 * Mechanisms that rest on somebody else's word: a token that PAM verifies, a client certificate that T verified.
 */
#ifndef AUTH_BEARER_H
#define AUTH_BEARER_H

#include "handlers/auth/auth.h"

#define BEARER_SERVICE "oauth" /* tokens go to the PAM service pennypost-oauth, which the admin writes */

/* Rows of the mechanism tables; see struct mechanism. */
int bearer_oauth(struct auth *a);    /* OAUTHBEARER, RFC 7628 */
int bearer_xoauth2(struct auth *a);  /* XOAUTH2 */
int bearer_external(struct auth *a); /* EXTERNAL, RFC 4422 appendix A */

#endif
