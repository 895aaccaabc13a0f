/*
 * The file of device passwords: what challenge mechanisms need to verify a client, one line per password. It holds no
 * password unless CRAM-MD5 or APOP was asked for. Text, tab-separated "key=value" words behind the user name, readable
 * by its owner only:
 *
 *     pennypost-devices 1 key=BASE64
 *     alice id=3 name=My phone created=1795311246 expires=0 used=2026-11-22 protocols=imap,smtp
 *           sha256=4096:SALT:STOREDKEY:SERVERKEY sha1=4096:SALT:STOREDKEY:SERVERKEY cram=BASE64
 *
 * (a line of its own each). All device passwords of one user share their salt, since SCRAM (RFC 5802 5) tells the
 * client one salt before it knows which of them will be used. This module knows the file, not the cryptography.
 */
#ifndef BASE_DEVICES_H
#define BASE_DEVICES_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/str.h"

#define DEVICES_FILE_MAX (4u << 20) /* bytes; some ten thousand passwords */
#define DEVICES_LINE_MAX 2048
#define DEVICES_NAME_MAX 64 /* bytes of the name of a device */

struct device_scram {
    uint32_t iterations;
    struct str salt, stored, server; /* base64 */
};

struct device {
    struct str user;
    uint32_t id; /* unique among the devices of one file */
    struct str name;
    uint64_t created;     /* seconds since 1970 */
    uint64_t expires;     /* 0: never */
    struct str used;      /* "2026-11-22", "----------" never */
    struct str protocols; /* comma-separated services; empty: all */
    struct device_scram sha256, sha1;
    struct str cram; /* the password in base64, or empty */
};

struct devices {
    struct buf text; /* the whole file; the views of a struct device point into it */
    struct str key;  /* secret of this file, base64 */
    size_t pos;      /* of the next line */
};

#define _cleanup_devices_ _cleanup_(devices_finish)

/* Reads the file. -ENOENT: there is none. -EPERM: not a regular file of ours with mode 0600. -EFBIG, -EBADMSG (header),
 * another errno. */
int devices_load(const char *path, struct devices *ret);
void devices_finish(struct devices *d);

/* Starts at the first line again. */
void devices_rewind(struct devices *d);

/* The next row: 1; 0 at the end. Damaged lines are skipped. */
int devices_next(struct devices *d, struct device *ret);

/* The next row of this user that may be used now for this service ("imap"; the null view: any), as devices_next(). */
int devices_next_for(struct devices *d, struct str user, struct str service, uint64_t now, struct device *ret);

/* Appends a row as a line. -EINVAL: a value that the format cannot carry. */
int devices_print(const struct device *d, struct buf *out);

/* Appends the first line of a new file. */
int devices_print_header(struct str key, struct buf *out);

/* Puts `text` in the place of the file, durably, mode 0600. The caller holds devices_lock(). */
int devices_replace(const char *path, struct str text);

/* Waits for the right to change the file: an fd to close when done. */
int devices_lock(const char *path, int *ret_fd);

/* Notes in the file that a password was used on `day` ("2026-11-22"), in place and once a day. */
int devices_touch(const char *path, uint32_t id, const char day[static 10]);

/* What a file makes possible, for whoever announces mechanisms. Both false when there is none or it cannot be read. */
void devices_offer(const char *path, struct str service, uint64_t now, bool *ret_has_scram, bool *ret_has_cram);

#endif
