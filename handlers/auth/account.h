/*
 * Which accounts may log in at all, whatever their password.
 */
#ifndef AUTH_ACCOUNT_H
#define AUTH_ACCOUNT_H

#include "handlers/auth/auth.h"

/* Looks a->user up. 0; -ENOENT: no such account; -EPERM: root, or a uid below min_uid;
 * another errno: the user database cannot be asked now. */
int account_check(struct auth *a);

/* The same for who has been let in, with all that a session needs to know of him, into a->account. Without root any
 * account but root's. */
int account_find(struct auth *a);

/* Has a->user's account or password expired, as the shadow file says? Debian's common-account answers a plain "denied"
 * for both, so PAM's result alone does not tell. */
bool account_is_expired(const struct auth *a);

#endif
