/*
 * CRAM-MD5 and APOP. Runs in auth-sasl, as root.
 */
#include "handlers/auth/digest.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "handlers/auth/device.h"
#include "handlers/auth/sasl.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/login/base64.h"

/* Are the digits those of the digest: HMAC-MD5 with the password as the key (CRAM-MD5), or MD5 of the challenge and the
 * password behind it (APOP)? 1 yes, 0 no, or a negative errno. */
static int is_right(bool is_apop, struct str challenge, struct str password, struct str hex)
{
    uint8_t hash[DIGEST_MAX];
    char text[2 * 16 + 1];
    int r = is_apop ? digest_of_two(DIGEST_MD5, challenge, password, hash)
                    : digest_hmac(DIGEST_MD5, password, challenge, hash);

    for (size_t i = 0; r == 0 && i < 16; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", hash[i]);
    return r < 0 ? r : secret_equal((struct str){text, 2 * 16}, hex);
}

static int verify(struct auth *a, bool is_apop, struct str challenge, struct str response)
{
    _cleanup_devices_ struct devices d = {0};
    struct sasl_digest digest;
    struct device row;
    uint32_t id = 0;

    if (sasl_parse_digest(response, &digest) < 0)
        return auth_fail(a, AUTH_CLASS_MECHANISM, "malformed digest");
    if (!auth_claim(a, digest.user))
        return auth_fail(a, AUTH_CLASS_CREDENTIALS, "not a possible user name");
    if (device_load(a, &d) < 0)
        return auth_fail(a, AUTH_CLASS_MECHANISM, "no device passwords");
    while (device_next(a, &d, &row) > 0) {
        struct buf password = BUF_INIT(LIMIT_PASSWORD);
        int r = row.cram.len > 0 ? base64_decode(row.cram, &password) : -ENOENT;

        if (r == 0)
            r = is_right(is_apop, challenge, buf_str(&password), digest.hex);
        buf_wipe_finish(&password);
        if (r == -ENOMEM)
            return auth_fail(a, AUTH_CLASS_TEMPORARY, "MD5 is not available");
        if (r > 0)
            id = row.id;
    }
    return id ? device_admit(a, id) : auth_fail(a, AUTH_CLASS_CREDENTIALS, "wrong digest");
}

int digest_cram_md5(struct auth *a, unsigned form)
{
    _cleanup_buf_ struct buf challenge = BUF_INIT(LIMIT_LINE_POP3);
    unsigned long long random = 0; /* and the time: RFC 2195 2 wants no challenge twice */
    struct str response;
    int r = secret_random(&random, sizeof(random));

    (void)form;
    if (a->has_initial) /* nor an empty one (RFC 5034 4) */
        return auth_fail(a, AUTH_CLASS_MECHANISM, "CRAM-MD5 has no initial response");
    /* RFC 2195 2: the form of a message identifier. */
    if (r == 0)
        r = buf_printf(&challenge, "<%016llx.%lld@%s>", random, (long long)time(NULL), a->conf->hostname);
    if (r == 0)
        r = auth_challenge(a, buf_str(&challenge), &response);
    return r < 0 ? r : verify(a, false, buf_str(&challenge), response);
}

int digest_apop(struct auth *a, unsigned form)
{
    (void)form;
    if (a->apop.len == 0 || !a->has_initial)
        return auth_fail(a, AUTH_CLASS_MECHANISM, "APOP without a challenge");
    return verify(a, true, a->apop, a->initial);
}
