/*
 * Whether a domain has an MTA-STS policy, and which (RFC 8461). This is the manual for `relay`, which asks before it
 * sends to a domain found by MX lookup, and for a relayhost with that host's name as the domain (RFC 8461 3.4):
 *
 *   struct sts_result sts;
 *   sts_find(conf, &dns, str_from(list.domain), &sts);
 *   sts.policy.mode == STS_ENFORCE: for each host
 *       sts_policy_allows(&sts.policy, str_from(host.name)), else go on to the next host, and
 *       STARTTLS with a certificate that chains to `tls_ca`, is not expired, and has host.name as a DNS-ID: else the
 *       next host; no host left: a temporary failure (RFC 8461 5), never plaintext, never a bounce by itself
 *   STS_TESTING: the same checks, but only the log hears of failures, with the RFC 8460 4.3 result types below
 *   STS_NONE: as without
 *   DANE has precedence where a host has TLSA records (RFC 8461 2).
 *
 * For each delivery the log says policy_type= (sts_policy_type()), policy_domain=, policy_mode=, and for a failure
 * result_type= (one of STS_RESULT_...) with mx=: what a TLS report (RFC 8460) needs.
 *
 * Policies are kept in conf->sts_cache, a file a domain, replaced atomically; any number of processes may share it. The
 * policy file is fetched and parsed by the program `sts`, confined and with an address to connect to; it does no DNS.
 */
#ifndef STS_STS_H
#define STS_STS_H

#include "shared/base/conf.h"
#include "shared/dns/dns.h"
#include "shared/sts/policy.h"

/* RFC 8460 4.3 */
#define STS_RESULT_STARTTLS      "starttls-not-supported"
#define STS_RESULT_HOST_MISMATCH "certificate-host-mismatch"
#define STS_RESULT_EXPIRED       "certificate-expired"
#define STS_RESULT_NOT_TRUSTED   "certificate-not-trusted"
#define STS_RESULT_VALIDATION    "validation-failure"
#define STS_RESULT_TLSA_INVALID  "tlsa-invalid"
#define STS_RESULT_DNSSEC        "dnssec-invalid"
#define STS_RESULT_DANE_REQUIRED "dane-required"
#define STS_RESULT_FETCH         "sts-policy-fetch-error"
#define STS_RESULT_INVALID       "sts-policy-invalid"
#define STS_RESULT_WEBPKI        "sts-webpki-invalid"

#define STS_REFRESH                                                                                                    \
    86400             /* seconds after which a policy is fetched again although its id is the same (RFC 8461 3.3)      \
                       */
#define STS_RETRY 300 /* seconds after a failed fetch until the next one (RFC 8461 3.3) */

struct sts_result {
    struct sts_policy policy; /* mode STS_NONE: no policy */
    bool is_found;            /* there is one, perhaps with mode none */
    char id[STS_ID + 1];
    const char *failure; /* STS_RESULT_FETCH, _INVALID, _WEBPKI: a policy is announced and could not be had; or NULL */
    char detail[200];    /* words for the log that go with it; without a failure: why it cannot be kept, or "" */
};

/* Never fails: without a usable policy it is none, as for a domain without MTA-STS (RFC 8461 3.3).
 * With `mta_sts = no` nothing is asked. */
void sts_find(const struct conf *conf, struct dns *dns, struct str domain, struct sts_result *ret);

/* "sts" or "no-policy-found" (RFC 8460 4.2). */
const char *sts_policy_type(const struct sts_result *r);

#endif
