/*
 * Device passwords. Runs in auth-sasl, as root or as the user who owns the file.
 */
#include "handlers/auth/device.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "handlers/auth/admit.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"
#include "shared/base/secret.h"
#include "shared/login/base64.h"

int device_load(const struct auth *a, struct devices *ret)
{
    return devices_load(a->conf->devices, ret);
}

int device_next(const struct auth *a, struct devices *d, struct device *ret)
{
    return devices_next_for(d, str_from(a->user), str_from(a->service), (uint64_t)time(NULL), ret);
}

const struct device_scram *device_scram(const struct device *row, enum digest digest)
{
    return digest == DIGEST_SHA1 ? &row->sha1 : &row->sha256;
}

int device_keys(const struct device *row, enum digest digest, struct scram_keys *ret)
{
    const struct device_scram *s = device_scram(row, digest);
    _cleanup_buf_ struct buf stored = BUF_INIT(DIGEST_MAX), server = BUF_INIT(DIGEST_MAX);
    size_t size = digest_size(digest);

    if (s->iterations == 0 || base64_decode(s->stored, &stored) < 0 || base64_decode(s->server, &server) < 0 ||
        stored.len != size || server.len != size)
        return -EBADMSG;
    memcpy(ret->stored, stored.data, size);
    memcpy(ret->server, server.data, size);
    return 0;
}

/* All rows are looked at, and each costs the same: the time tells nothing but how many a user has. */
int device_check_password(const struct auth *a, struct str password, uint32_t *ret_id)
{
    _cleanup_devices_ struct devices d = {0};
    struct device row;
    int found = 0;
    int r = device_load(a, &d);

    if (r < 0)
        return r == -ENOENT ? 0 : r;
    while (device_next(a, &d, &row) > 0) {
        _cleanup_buf_ struct buf salt = BUF_INIT(DIGEST_MAX);
        struct scram_keys keys, tried;

        if (device_keys(&row, DIGEST_SHA256, &keys) < 0 || base64_decode(row.sha256.salt, &salt) < 0)
            continue;
        r = scram_derive(DIGEST_SHA256, password, buf_str(&salt), row.sha256.iterations, &tried);
        if (r < 0)
            return r;
        if (secret_equal((struct str){(char *)keys.stored, 32}, (struct str){(char *)tried.stored, 32})) {
            *ret_id = row.id;
            found = 1;
        }
    }
    return found;
}

int device_admit(struct auth *a, uint32_t id)
{
    char day[sizeof("2026-11-22")];
    time_t now = time(NULL);
    struct tm tm;
    int r = admit_proved(a);

    if (r != 0)
        return r;
    if (gmtime_r(&now, &tm) && strftime(day, sizeof(day), "%Y-%m-%d", &tm) == sizeof(day) - 1)
        r = devices_touch(a->conf->devices, id, day);
    if (r < 0) /* a full or read-only disk is no reason to lock somebody out */
        LOG_ERROR(LOG_WARNING, "device-not-noted", r, LOG_FC("file", a->conf->devices));
    return 0;
}
