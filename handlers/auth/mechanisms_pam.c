/*
 * The mechanisms of auth: those that hand a secret to PAM. Runs as root.
 */
#include <errno.h>
#include <stdio.h>

#include "handlers/auth/account.h"
#include "handlers/auth/auth.h"
#include "handlers/auth/pam.h"
#include "handlers/auth/password.h"
#include "shared/base/macros.h"

const struct mechanism AUTH_MECHANISMS[] = {
    {"PLAIN", password_plain},
    {"LOGIN", password_login},
};
const size_t AUTH_MECHANISMS_COUNT = ARRAY_SIZE(AUTH_MECHANISMS);

const char *auth_other_program(const struct auth *a)
{
    (void)a;
    return NULL;
}

int password_verify(struct auth *a, struct str password)
{
    char stack[sizeof("pennypost-") + AUTH_SERVICE];

    /* For root and system accounts PAM is not even asked: this is no place to try out their passwords. */
    if (account_check(a) == -EPERM)
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "root or uid below min_uid");
    (void)snprintf(stack, sizeof(stack), "pennypost-%s", a->service);
    return pam_admit(a, stack, password);
}
