/*
 * PLAIN and LOGIN. Runs in auth and auth-sasl, as root.
 */
#include "handlers/auth/password.h"

#include <errno.h>

#include "handlers/auth/sasl.h"
#include "shared/base/secret.h"

/* LOGIN has no last message: a client that answers questions answers one more. The first two are answered already. */
int password_run(struct auth *a, unsigned form)
{
    struct sasl_plain p;
    struct str message = a->initial;
    int r = 0;

    a->can_ask = form == PASSWORD_LOGIN;
    if (!a->can_ask)
        r = auth_initial(a, &message);
    if (r < 0)
        return r;
    if (sasl_parse_plain(message, &p) < 0)
        return auth_fail(a, AUTH_CLASS_MECHANISM, "malformed PLAIN");
    a->is_for_another = p.authzid.len > 0 && !str_eq(p.authzid, p.authcid);
    if (p.password.len > LIMIT_PASSWORD)
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "password too long");
    if (!auth_claim(a, p.authcid))
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "not a possible user name");
    return password_verify(a, p.password);
}
