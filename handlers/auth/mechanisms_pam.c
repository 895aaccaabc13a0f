/*
 * The mechanisms of auth: those that need no cryptography. Runs as root.
 */
#include <errno.h>
#include <time.h>

#include "handlers/auth/admit.h"
#include "handlers/auth/auth.h"
#include "handlers/auth/bearer.h"
#include "handlers/auth/password.h"
#include "handlers/auth/sasl.h"
#include "shared/base/devices.h"
#include "shared/base/macros.h"

#define OTHER "auth-sasl"

const struct mechanism AUTH_MECHANISMS[] = {
    {"PLAIN", password_run, PASSWORD_PLAIN},
    {"LOGIN", password_run, PASSWORD_LOGIN},
    {"OAUTHBEARER", bearer_oauth, BEARER_OAUTH},
    {"XOAUTH2", bearer_oauth, BEARER_XOAUTH2},
    {"EXTERNAL", bearer_external, 0},
};
const size_t AUTH_MECHANISMS_COUNT = ARRAY_SIZE(AUTH_MECHANISMS);

/* Has whoever wants to log in device passwords? With PLAIN whose message is still to come nobody knows who that is. */
static bool may_have_devices(const struct auth *a)
{
    _cleanup_devices_ struct devices d = {0};
    struct sasl_plain p;
    struct device row;
    struct str user = STR_NULL;

    if (sasl_parse_plain(a->initial, &p) == 0)
        user = p.authcid;
    return devices_load(a->conf->devices, &d) == 0 &&
           devices_next_for(&d, user, str_from(a->service), (uint64_t)time(NULL), &row) > 0;
}

const char *auth_other_program(const struct auth *a)
{
    static const char *const challenging[] = {"SCRAM-", "CRAM-MD5", "APOP"};
    bool has_password = strcasecmp(a->mechanism, "PLAIN") == 0 || strcasecmp(a->mechanism, "LOGIN") == 0;

    for (size_t i = 0; i < ARRAY_SIZE(challenging); i++)
        if (strncasecmp(a->mechanism, challenging[i], strlen(challenging[i])) == 0)
            return OTHER;
    return has_password && may_have_devices(a) ? OTHER : NULL;
}

int password_verify(struct auth *a, struct str password)
{
    return admit_secret(a, password);
}
