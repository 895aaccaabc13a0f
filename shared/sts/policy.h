/*
 * MTA-STS policies (RFC 8461) as texts: the TXT record that announces one, the policy file, and what they demand.
 */
#ifndef STS_POLICY_H
#define STS_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/dns/name.h"
#include "shared/io/frame.h"

#define STS_ID      32 /* bytes of an id (RFC 8461 3.1) */
#define STS_MX      64 /* patterns of one policy */
#define STS_PATTERN (DNS_NAME_MAX + 2)
#define STS_BODY    (64u << 10) /* a policy file; the size that RFC 8461 3.3 suggests */
#define STS_MAX_AGE 31557600u   /* seconds (RFC 8461 3.2) */

enum sts_mode { STS_NONE, STS_TESTING, STS_ENFORCE };

struct sts_policy {
    enum sts_mode mode;
    uint32_t max_age; /* seconds from when it was fetched */
    size_t mx_count;
    char mx[STS_MX][STS_PATTERN + 1]; /* lower case, "mail.example.org" or "*.example.org" */
};

/* "v=STSv1; id=...": 0 with the id, -EINVAL when this is no such record. */
int sts_record_parse(struct str text, char ret_id[static STS_ID + 1]);

/* Does a TXT record claim to be one: does it begin with "v=STSv1" and a delimiter (RFC 8461 3.1)? */
bool sts_record_is_ours(struct str text);

/* The policy file. -EINVAL. */
int sts_policy_parse(struct str body, struct sts_policy *ret);

/* "enforce", ... of a mode; the other way -EINVAL. */
const char *sts_mode_name(enum sts_mode mode);
int sts_mode_parse(struct str name, enum sts_mode *ret);

/* Is it a pattern that mx: may have? */
bool sts_pattern_is_valid(struct str pattern);

/* Does the policy allow this mail host (RFC 8461 4.1)? `host` is the name in the MX record, without final dot. */
bool sts_policy_allows(const struct sts_policy *p, struct str host);

/* The fields of FRAME_STS_POLICY: u mode, u max_age, u count, s pattern... Reading judges everything anew: -EBADMSG. */
int sts_policy_put(struct frame *f, const struct sts_policy *p);
int sts_policy_get(struct frame_reader *in, struct sts_policy *ret);

#endif
