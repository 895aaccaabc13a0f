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

int password_plain(struct auth *a)
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

int password_login(struct auth *a)
{
    char user[LIMIT_USER + 1];
    struct str s;
    size_t len;
    int r;

    if (a->has_initial)
        s = a->initial;
    else if ((r = auth_challenge(a, STR("Username:"), &s)) < 0)
        return r;
    /* The view ends with the next response. */
    if (s.len > LIMIT_USER)
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "user name too long");
    len = s.len;
    if (len > 0)
        memcpy(user, s.ptr, len);
    r = auth_challenge(a, STR("Password:"), &s);
    if (r < 0)
        return r;
    if (s.len == 0 || str_has_nul(s))
        return auth_fail(a, AUTH_CLASS_MECHANISM, "malformed LOGIN");
    return verify(a, (struct str){user, len}, s);
}
