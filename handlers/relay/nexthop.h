/*
 * Where a recipient's mail goes next, by the admin's three files and `relayhost` (relay(8) describes them):
 *
 *   relay_routes: by domain of the recipient (.example.org with subdomains), by sender, by a sender's domain;
 *   "mx" is the way of the DNS although there is a relayhost
 *     example.org             mail.example.org:587
 *     from:bob@example.net    smtps://mail.example.net
 *     example.com             mx
 *
 *   tls_policy: none, may, encrypt, verify [NAMES], dane
 *     example.org             verify mx.example.org
 *
 *   relay_credentials: the secret may be a token, bearer:TOKEN
 *     mail.example.org:587    alice  secret
 */
#ifndef RELAY_NEXTHOP_H
#define RELAY_NEXTHOP_H

#include "handlers/relay/job.h"
#include "shared/base/conf.h"

#define NEXTHOP_FILE (1u << 20) /* bytes of one of the files */
#define NEXTHOP_KEY  (LIMIT_DOMAIN + 48)

struct nexthop_files {
    const struct conf *conf;
    struct buf routes, policies, credentials, customers;
};

struct nexthop {
    struct job job; /* views into the files, `host` and `conf` */
    char host[LIMIT_DOMAIN + 3];
    char key[NEXTHOP_KEY]; /* recipients with the same key can share connections */
};

/* Reads the files that exist. 0; -EPERM: others than root may read the credentials; other errno. *ret_path names the
 * file that failed. */
int nexthop_load(const struct conf *conf, struct nexthop_files *ret, const char **ret_path);
void nexthop_finish(struct nexthop_files *f);

/* The next hop that the admin named for something else than a message, with its login and its TLS. 0, -EINVAL. */
int nexthop_host(const struct nexthop_files *f, struct str spec, uint32_t port, struct job *ret);

/* The next hop for a recipient. 0; -EINVAL: the address has no domain that could be asked for, or a route makes no
 * sense (*ret_why, static). */
int nexthop_find(const struct nexthop_files *f, struct str sender, struct str recipient, bool is_requiretls,
                 bool is_tls_optional, struct nexthop *ret, const char **ret_why);

/* "HOST", "HOST:PORT", "[ADDRESS]:PORT", "smtps://HOST". 0, -EINVAL. *ret_port is 0 if none is given. Pure. */
int nexthop_parse(struct str spec, struct str *ret_host, uint32_t *ret_port, bool *ret_is_implicit);

#endif
