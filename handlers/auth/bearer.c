/*
 * OAUTHBEARER, XOAUTH2, EXTERNAL. Runs in auth and auth-sasl, as root.
 */
#include "handlers/auth/bearer.h"

#include <errno.h>

#include "handlers/auth/admit.h"
#include "handlers/auth/sasl.h"
#include "shared/base/macros.h"
#include "shared/gate/tls.h"

/* RFC 7628 3.2.2: a refused client is told why before the failure (the words are RFC 6750's); it answers with a single
 * ^A. The failure is the same when it cancels or goes away instead. */
static int refuse(struct auth *a, int class)
{
    struct str error =
        class == AUTH_CLASS_MECHANISM ? STR("{\"status\":\"invalid_request\"}") : STR("{\"status\":\"invalid_token\"}");
    struct str ignored;
    int r = auth_challenge(a, error, &ignored);

    return r < 0 && r != -ENODATA ? r : class;
}

int bearer_oauth(struct auth *a, unsigned form)
{
    _cleanup_buf_ struct buf user = BUF_INIT(LIMIT_USER * 3);
    struct sasl_oauth o;
    struct str message;
    int r = auth_initial(a, &message);

    if (r < 0)
        return r;
    if ((form == BEARER_XOAUTH2 ? sasl_parse_xoauth2 : sasl_parse_oauthbearer)(message, &o) < 0)
        return refuse(a, auth_fail(a, AUTH_CLASS_MECHANISM, "malformed token message"));
    r = form == BEARER_XOAUTH2 ? buf_add_str(&user, o.user) : sasl_unescape(o.user, &user);
    if (r < 0 || !auth_claim(a, buf_str(&user)))
        r = auth_fail(a, AUTH_CLASS_CREDENTIALS, "not a possible user name");
    else
        r = admit_secret_by(a, BEARER_SERVICE, o.token);
    return r > 0 ? refuse(a, r) : r;
}

int bearer_external(struct auth *a, unsigned form)
{
    struct str name = tls_common_name(a->subject), message;
    int r;

    (void)form;
    if (!a->conf->external_auth || !a->is_tls || name.len == 0)
        return auth_fail(a, AUTH_CLASS_MECHANISM, "EXTERNAL without a client certificate that names a user");
    r = auth_initial(a, &message);
    if (r < 0)
        return r;
    if (!auth_claim(a, name))
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "not a possible user name");
    a->is_for_another = message.len > 0 && !str_eq(message, name);
    return admit_proved(a);
}
