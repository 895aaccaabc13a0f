/*
 * crypt_r() of auth and auth-sasl, in place of libcrypt's: the same, but what was just computed is not computed anew.
 * pam_unix until Linux-PAM 1.5.2 passes crypt_r() to a macro that writes its argument two times, and so hashes every
 * password twice with the same arguments. A hash is what a login takes longest for.
 *
 * The memory is the caller's crypt_data: its fields for setting and phrase, which libcrypt leaves to its users,
 * crypt(3), and in one that it reserves the result a second time. Where a module hashes only once the phrase stays as
 * long as the crypt_data does, like the copies that PAM itself keeps until its end.
 */
#include <crypt.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "shared/base/secret.h"

_Static_assert(sizeof(((struct crypt_data *)0)->reserved) >= sizeof(((struct crypt_data *)0)->output),
               "the result has room there");

/* Does the caller keep this argument in the crypt_data itself? Then there is nothing to compare it with. */
static bool is_within(const char *s, const struct crypt_data *data)
{
    return (uintptr_t)s - (uintptr_t)data < sizeof(*data);
}

static void forget(struct crypt_data *data)
{
    secret_wipe(data->input, sizeof(data->input));
    secret_wipe(data->setting, sizeof(data->setting));
    secret_wipe(data->reserved, sizeof(data->output));
    data->initialized = 0;
}

/* Is the result of these very arguments still there, untouched? `initialized` is 0 before the first use of a
 * crypt_data, so says its manual; we set it. */
static bool is_known(const char *phrase, const char *setting, const struct crypt_data *data)
{
    return data->initialized && data->input[sizeof(data->input) - 1] == '\0' &&
           data->setting[sizeof(data->setting) - 1] == '\0' && strcmp(data->input, phrase) == 0 &&
           strcmp(data->setting, setting) == 0 && memcmp(data->output, data->reserved, sizeof(data->output)) == 0;
}

static void remember(const char *phrase, const char *setting, struct crypt_data *data)
{
    size_t input = strlen(phrase) + 1, set = strlen(setting) + 1;

    if (input > sizeof(data->input) || set > sizeof(data->setting))
        return;
    memset(data->input, 0, sizeof(data->input));
    memset(data->setting, 0, sizeof(data->setting));
    memcpy(data->input, phrase, input);
    memcpy(data->setting, setting, set);
    memcpy(data->reserved, data->output, sizeof(data->output));
    data->initialized = 1;
}

__attribute__((visibility("default"), used)) char *crypt_r(const char *phrase, const char *setting,
                                                           struct crypt_data *restrict data)
{
    char *hash;

    if (!phrase || !setting || is_within(phrase, data) || is_within(setting, data)) {
        hash = crypt_rn(phrase, setting, data, (int)sizeof(*data));
        return hash ? hash : data->output;
    }
    if (is_known(phrase, setting, data)) {
        forget(data); /* once is enough, and a password does not stay */
        return data->output;
    }
    if (data->initialized)
        forget(data);
    hash = crypt_rn(phrase, setting, data, (int)sizeof(*data));
    if (!hash)
        return data->output; /* what can be no hash of anything, crypt(3) */
    remember(phrase, setting, data);
    return hash;
}
