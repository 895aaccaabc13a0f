/*
 * PLAIN and LOGIN. Runs in auth and auth-sasl, as root.
 */
#include "handlers/auth/password.h"

#include <errno.h>

#include "handlers/auth/sasl.h"
#include "shared/base/secret.h"

static int verify(struct auth *a, struct str user, struct str password)
{
    if (password.len > LIMIT_PASSWORD)
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "password too long");
    if (!auth_claim(a, user))
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "not a possible user name");
    return password_verify(a, password);
}

static int run(struct auth *a)
{
    struct sasl_plain p;
    struct str message;
    int r = auth_initial(a, &message);

    if (r < 0)
        return r;
    if (sasl_parse_plain(message, &p) < 0)
        return auth_fail(a, AUTH_CLASS_MECHANISM, "malformed PLAIN");
    if (p.authzid.len > 0 && !str_eq(p.authzid, p.authcid)) {
        (void)auth_claim(a, p.authcid);
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "acting for another user is not supported");
    }
    return verify(a, p.authcid, p.password);
}

int password_plain(struct auth *a)
{
    return run(a);
}

/* LOGIN has no last message: a client that answers questions answers one more. The first two are answered already. */
int password_login(struct auth *a)
{
    if (!a->has_initial)
        return auth_fail(a, AUTH_CLASS_MECHANISM, "malformed LOGIN");
    a->can_ask = true;
    return run(a);
}
