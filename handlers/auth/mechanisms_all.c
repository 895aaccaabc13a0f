/*
 * The mechanisms of auth-sasl: all of them. Runs as root.
 */
#include <errno.h>

#include "handlers/auth/admit.h"
#include "handlers/auth/auth.h"
#include "handlers/auth/bearer.h"
#include "handlers/auth/device.h"
#include "handlers/auth/digest.h"
#include "handlers/auth/password.h"
#include "handlers/auth/scram.h"
#include "shared/base/macros.h"

const struct mechanism AUTH_MECHANISMS[] = {
    {"SCRAM-SHA-256", scram_run, 0},
    {"SCRAM-SHA-256-PLUS", scram_run, SCRAM_PLUS},
    {"SCRAM-SHA-1", scram_run, SCRAM_SHA1},
    {"SCRAM-SHA-1-PLUS", scram_run, SCRAM_SHA1 | SCRAM_PLUS},
    {"CRAM-MD5", digest_cram_md5, 0},
    {"APOP", digest_apop, 0},
    {"PLAIN", password_run, PASSWORD_PLAIN},
    {"LOGIN", password_run, PASSWORD_LOGIN},
    {"OAUTHBEARER", bearer_oauth, BEARER_OAUTH},
    {"XOAUTH2", bearer_oauth, BEARER_XOAUTH2},
    {"EXTERNAL", bearer_external, 0},
};
const size_t AUTH_MECHANISMS_COUNT = ARRAY_SIZE(AUTH_MECHANISMS);

const char *auth_other_program(const struct auth *a)
{
    (void)a;
    return NULL;
}

/* A device password, else the login password. */
int password_verify(struct auth *a, struct str password)
{
    uint32_t id = 0;
    int r = device_check_password(a, password, &id);

    if (r < 0)
        return auth_fail(a, AUTH_CLASS_TEMPORARY, "device passwords cannot be read");
    return r > 0 ? device_admit(a, id) : admit_secret(a, password);
}
