/*
 * Secrets: wiped in a way that the compiler keeps, compared in constant time, drawn from the kernel.
 */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/base/str.h"

/* Overwrites memory that held a secret. */
void secret_wipe(void *p, size_t len);

/* Equality in a time that depends on the lengths only. */
bool secret_equal(struct str a, struct str b);

/* `len` random bytes from the kernel. 0 or a negative errno. */
int secret_random(void *p, size_t len);

#endif
