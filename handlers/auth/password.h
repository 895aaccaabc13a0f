/*
 * Mechanisms in which the client hands the password over: PLAIN and LOGIN.
 */
#ifndef AUTH_PASSWORD_H
#define AUTH_PASSWORD_H

#include "handlers/auth/auth.h"

/* Rows of the mechanism tables; see struct mechanism. */
enum password_form {
    PASSWORD_PLAIN, /* RFC 4616 */
    PASSWORD_LOGIN, /* draft-murchison-sasl-login-00 */
};
int password_run(struct auth *a, unsigned form);

/* Decides about a->user with this password; each of the two programs has its own. 0 or an auth_class. */
int password_verify(struct auth *a, struct str password);

#endif
