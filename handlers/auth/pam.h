/*
 * PAM, for one user of one attempt.
 */
#ifndef AUTH_PAM_H
#define AUTH_PAM_H

#include "handlers/auth/auth.h"

/* Reads the service file and loads its modules, which takes longer than most of what follows, before it is known who
 * will ask. No module is called. pam_admit() with the same `stack` goes on from there. */
void pam_prepare(struct auth *a, const char *stack);

/* Is this user's secret right and may he come in? authenticate, acct_mgmt, setcred, and open_session if configured.
 * With secret.ptr == NULL somebody else (a device password, a certificate) has proved who he is, and PAM is asked for
 * the account only. `stack` is the PAM service. On success a->user is the name PAM ended with, and
 * pam_leave() is due: after the answer, or if a->has_pam_session when the connection ends. 0 or an auth_class. */
int pam_admit(struct auth *a, const char *stack, struct str secret);

/* Closes the PAM session, if a->has_pam_session, and ends PAM, if it was used or prepared. */
void pam_leave(struct auth *a);

#endif
