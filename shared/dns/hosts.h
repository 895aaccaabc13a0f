/*
 * hosts(5): addresses of hosts that the admin named, where there is no DNS for them. Only hop_find_host() looks there:
 * the names of strangers' mail hosts are the DNS's business.
 */
#ifndef DNS_HOSTS_H
#define DNS_HOSTS_H

#include "shared/dns/hop.h"

#define HOSTS_FILE "/etc/hosts"
#define HOSTS_MAX  (1u << 20) /* bytes of the file that are looked at; lists of advertisers make it large */

/* Adds the addresses that the text gives to host->name, IPv6 first, each once. */
void hosts_parse(struct str text, struct hop_host *host);

/* The same from a file; one that cannot be read has no addresses. */
void hosts_find(const char *path, struct hop_host *host);

#endif
