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
    {"SCRAM-SHA-256", scram_sha256}, {"SCRAM-SHA-256-PLUS", scram_sha256_plus},
    {"SCRAM-SHA-1", scram_sha1},     {"SCRAM-SHA-1-PLUS", scram_sha1_plus},
    {"CRAM-MD5", digest_cram_md5},   {"APOP", digest_apop},
    {"PLAIN", password_plain},       {"LOGIN", password_login},
    {"OAUTHBEARER", bearer_oauth},   {"XOAUTH2", bearer_xoauth2},
    {"EXTERNAL", bearer_external},
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
