/*
 * Mechanisms that rest on somebody else's word: a token that PAM verifies, a client certificate that T verified.
 */
#ifndef AUTH_BEARER_H
#define AUTH_BEARER_H

#include "handlers/auth/auth.h"

#define BEARER_SERVICE "oauth" /* tokens go to the PAM service pennypost-oauth, which the admin writes */

/* Rows of the mechanism tables; see struct mechanism. */
enum bearer_form {
    BEARER_OAUTH, /* OAUTHBEARER, RFC 7628 */
    BEARER_XOAUTH2,
};
int bearer_oauth(struct auth *a, unsigned form);
int bearer_external(struct auth *a, unsigned form); /* EXTERNAL, RFC 4422 appendix A */

#endif
