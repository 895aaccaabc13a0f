/*
 * Device passwords, as the mechanisms of auth-sasl use them.
 */
#ifndef AUTH_DEVICE_H
#define AUTH_DEVICE_H

#include "handlers/auth/auth.h"
#include "shared/base/devices.h"
#include "shared/crypto/scram.h"

/* The rows of the file. -ENOENT: there is no such file. */
int device_load(const struct auth *a, struct devices *ret);

/* The next row of a->user for this service that has not expired: 1, 0 at the end. */
int device_next(const struct auth *a, struct devices *d, struct device *ret);

/* Decodes the keys of a row for a digest. -EBADMSG when the row has none or damaged ones. */
int device_keys(const struct device *row, enum digest digest, struct scram_keys *ret);

/* The row's SCRAM words for a digest. */
const struct device_scram *device_scram(const struct device *row, enum digest digest);

/* Is this one of a->user's device passwords? Sets *ret_id. 1 yes, 0 no, negative errno. */
int device_check_password(const struct auth *a, struct str password, uint32_t *ret_id);

/* The client proved that it has the password of this device: notes the use, then the account's right. 0 or a class. */
int device_admit(struct auth *a, uint32_t id);

#endif
