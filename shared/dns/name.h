/*
 * Domain names as they travel in questions and answers: ASCII without a final dot, "" for the root. Names with other
 * letters are asked for as A-labels (RFC 5890 2.3.2.1).
 */
#ifndef DNS_NAME_H
#define DNS_NAME_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/limits.h"

#define DNS_NAME_MAX 253 /* RFC 1035 2.3.4: 255 octets on the wire */

/* Labels of letters, digits, hyphens and underscores, 1 to 63 bytes each: what a host or a service label can be.
 * The root is none. */
bool dns_name_is_host(struct str name);

/* Without the final dot that some write. */
struct str dns_name_trim(struct str name);

/* Appends the name under which an address is found in reverse: "1.2.0.192" or nibbles, then `zone`
 * ("in-addr.arpa", "ip6.arpa", a block list). `bytes` are 4 or 16. 0, -ENOBUFS, -ENOMEM. */
int dns_name_reverse(const uint8_t *bytes, size_t len, struct str zone, struct buf *out);

/* A numeric address into 4 or 16 bytes; IPv4 inside IPv6 (::ffff:192.0.2.1) becomes IPv4, a zone index (%eth0) is
 * dropped. -EINVAL. */
int dns_address_parse(struct str text, uint8_t ret_bytes[static 16], size_t *ret_len);

/* The other way, NUL-terminated. */
void dns_address_print(const uint8_t *bytes, size_t len, char out[static LIMIT_ADDRESS]);

#endif
