/*
 * The last step of every mechanism: the account's own right to come in.
 */
#ifndef AUTH_ADMIT_H
#define AUTH_ADMIT_H

#include "handlers/auth/auth.h"

/* Does what admit_secret() does before it looks at who it is, for a->service. Without root there is nothing to do. */
void admit_prepare(struct auth *a);

/* a->user with a secret for PAM (a password) by the service file of the protocol. 0 or an auth_class. */
int admit_secret(struct auth *a, struct str secret);

/* The same by another service file: pennypost-`suffix`. */
int admit_secret_by(struct auth *a, const char *suffix, struct str secret);

/* a->user, who has proved who he is in another way: PAM's account check only. Without root there is no PAM, and a->user
 * becomes the user who runs us. 0 or an auth_class. */
int admit_proved(struct auth *a);

#endif
