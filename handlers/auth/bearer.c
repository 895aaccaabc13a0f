/*
 * OAUTHBEARER, XOAUTH2, EXTERNAL. Runs in auth and auth-sasl, as root.
 */
#include "handlers/auth/bearer.h"

#include <errno.h>

#include "handlers/auth/admit.h"
#include "handlers/auth/sasl.h"
#include "shared/base/macros.h"

/* RFC 7628 3.2.2: what a refused client is told before the failure; it answers with a single ^A. The failure is the
 * same when it cancels or goes away instead. */
#define OAUTH_ERROR "{\"status\":\"invalid_token\"}"

static int refuse(struct auth *a, int class)
{
    struct str ignored;
    int r = auth_challenge(a, STR(OAUTH_ERROR), &ignored);

    return r < 0 && r != -ENODATA ? r : class;
}

static int oauth(struct auth *a, int (*parse)(struct str, struct sasl_oauth *))
{
    _cleanup_buf_ struct buf user = BUF_INIT(LIMIT_USER * 3);
    struct sasl_oauth o;
    struct str message;
    int r = auth_initial(a, &message);

    if (r < 0)
        return r;
    if (parse(message, &o) < 0)
        return auth_fail(a, AUTH_CLASS_MECHANISM, "malformed token message");
    r = parse == sasl_parse_oauthbearer ? sasl_unescape(o.user, &user) : buf_add_str(&user, o.user);
    if (r < 0 || !auth_claim(a, buf_str(&user)))
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "not a possible user name");
    r = admit_secret_by(a, BEARER_SERVICE, o.token);
    return r > 0 ? refuse(a, r) : r;
}

int bearer_oauth(struct auth *a)
{
    return oauth(a, sasl_parse_oauthbearer);
}

int bearer_xoauth2(struct auth *a)
{
    return oauth(a, sasl_parse_xoauth2);
}

/* The common name in a subject as RFC 4514 writes it. A name with escapes is none of a user. */
static struct str common_name(struct str subject)
{
    struct str part;
    bool has_more = subject.len > 0;

    if (str_chr(subject, '\\') >= 0)
        return STR_NULL;
    while (has_more) {
        has_more = str_cut(&subject, ',', &part);
        if (str_starts(part, STR("CN=")))
            return str_sub(part, 3, SIZE_MAX);
    }
    return STR_NULL;
}

int bearer_external(struct auth *a)
{
    struct str name = common_name(a->subject), message;
    int r;

    if (!a->conf->external_auth || !a->is_tls || name.len == 0)
        return auth_fail(a, AUTH_CLASS_MECHANISM, "EXTERNAL without a client certificate that names a user");
    r = auth_initial(a, &message);
    if (r < 0)
        return r;
    if (!auth_claim(a, name))
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "not a possible user name");
    if (message.len > 0 && !str_eq(message, name))
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "acting for another user is not supported");
    return admit_proved(a);
}
