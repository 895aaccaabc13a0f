/*
 * The account's right to come in. Runs in auth and auth-sasl; as root it asks NSS and PAM.
 */
#include "handlers/auth/admit.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>

#include "handlers/auth/account.h"
#include "handlers/auth/pam.h"

#define STACK_MAX (sizeof("pennypost-") + AUTH_SERVICE)

static void name_stack(char out[static STACK_MAX], const char *suffix)
{
    (void)snprintf(out, STACK_MAX, "pennypost-%s", suffix);
}

void admit_prepare(struct auth *a)
{
    char stack[STACK_MAX];

    if (geteuid() != 0)
        return;
    (void)getpwuid(0); /* the name service reads its configuration once */
    name_stack(stack, a->service);
    pam_prepare(a, stack);
}

int admit_secret_by(struct auth *a, const char *suffix, struct str secret)
{
    char stack[STACK_MAX];

    if (geteuid() != 0)
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "only device passwords without root");
    /* For root and system accounts PAM is not even asked: this is no place to try out their passwords. */
    if (account_check(a) == -EPERM)
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "root or uid below min_uid");
    name_stack(stack, suffix);
    return pam_admit(a, stack, secret);
}

int admit_secret(struct auth *a, struct str secret)
{
    return admit_secret_by(a, a->service, secret);
}

static int become_invoker(struct auth *a)
{
    const struct passwd *pw = getpwuid(geteuid());

    if (!pw || !auth_claim(a, str_from(pw->pw_name)) || account_find(a) < 0)
        return auth_fail(a, AUTH_CLASS_TEMPORARY, "the invoking user has no account");
    return auth_check_authorization(a);
}

int admit_proved(struct auth *a)
{
    char stack[STACK_MAX];
    int r;

    if (geteuid() != 0)
        return become_invoker(a);
    r = account_check(a);
    if (r == -EPERM || r == -ENOENT)
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "no account, root or uid below min_uid");
    if (r < 0)
        return auth_fail(a, AUTH_CLASS_TEMPORARY, "user database unavailable");
    name_stack(stack, a->service);
    return pam_admit(a, stack, STR_NULL);
}
