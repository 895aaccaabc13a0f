/*
 * The keys that a domain signs with: files DOMAIN.SELECTOR.key in the folder `dkim_keys`. They are read by root before
 * anything of a message is, and parsed behind the sandbox.
 */
#ifndef SIGN_KEYS_H
#define SIGN_KEYS_H

#include <stddef.h>

#include "shared/base/buf.h"

#define KEYS_MAX 64 /* files: some domains, a few selectors of each */

struct key_file {
    char name[256];              /* the file's */
    struct str domain, selector; /* views into it */
    struct buf pem;
};

struct key_files {
    struct key_file *items;
    size_t count;
};

/* Reads all of the folder; a missing folder has none. Files that others may read, or that are no plain files of ours,
 * are an error: -EPERM, with the name in `ret_name`. -E2BIG over KEYS_MAX, others of open(2). */
int keys_load(const char *folder, struct key_files *ret, char ret_name[static 256]);
void keys_finish(struct key_files *k);

/* The longest domain among the keys that is `domain` or stands above it: what DMARC calls alignment (RFC 7489 3.1.1).
 * Null view: there is none. */
struct str keys_domain(const struct key_files *k, struct str domain);

#endif
