/*
 * The TLS client: one connection to a server, over a transport, with what must be true of its certificate. TLS 1.2 and
 * 1.3, no renegotiation, no resumption. Everything waits by the time-outs and the deadline of the transport, so that a
 * server that stalls in the middle of a record stalls nobody for longer than in the clear.
 */
#ifndef CRYPTO_CLIENT_H
#define CRYPTO_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/str.h"
#include "shared/io/transport.h"

#define CLIENT_TRUST_MAX (2u << 20) /* bytes of a PEM file of authorities; Debian's bundle has 220 KB */
#define CLIENT_WHY       200        /* bytes of an explanation */
#define CLIENT_EXPORTER  32         /* bytes of a channel binding */

enum client_verify {
    CLIENT_VERIFY_NONE,  /* any certificate will do: opportunistic TLS (RFC 7435) */
    CLIENT_VERIFY_NAMES, /* trusted authority and one of the names (RFC 6125 as OpenSSL does it) */
    CLIENT_VERIFY_DANE,  /* one of the TLSA records (RFC 7672 3) */
};

struct client_tls; /* opaque */

/* What of OpenSSL needs files: its configuration, with the system's crypto policy. To be called while there are some, a
 * sandboxed process has none. 0 or -ENOMEM. */
int client_library_init(void);

/* A connection that is to be. `sni` may be empty (none is sent). 0, -ENOMEM. */
int client_new(enum client_verify verify, struct str sni, struct client_tls **ret);
void client_free(struct client_tls *c); /* NULL is fine; does not send close_notify */

/* What is trusted; with CLIENT_VERIFY_NAMES: a PEM file, read to its end, which stays the caller's. -EINVAL: no
 * certificate in it. -EFBIG, -ENOMEM, errno of read(2). */
int client_trust(struct client_tls *c, int fd);

/* One more name that the certificate may have. 0, -EINVAL. */
int client_name(struct client_tls *c, struct str name);

/* One TLSA record (RFC 6698 2.1). 0; -ENOTSUP: not usable (PKIX-TA and PKIX-EE, RFC 7672 3.1.3; unknown matching
 * type; malformed): count those that are. */
int client_tlsa(struct client_tls *c, uint8_t usage, uint8_t selector, uint8_t matching, struct str data);

/* Does the handshake and puts the connection between the bytes of `t` and its fds; `t` and `c` belong together from
 * then on, and `c` must not move or end first. `why` explains a failure in words for a log. 0; -EKEYREJECTED the
 * certificate is not what it must be; -EPROTO the handshake failed; -ETIMEDOUT, -ENODATA, ... of the transport. */
int client_handshake(struct client_tls *c, struct transport *t, char why[static CLIENT_WHY]);

/* Says that nothing more will come (close_notify), as far as that can be told. */
void client_shutdown(struct client_tls *c, struct transport *t);

/* After the handshake: "TLSv1.3", "TLS_AES_256_GCM_SHA384". */
const char *client_version(const struct client_tls *c);
const char *client_cipher(const struct client_tls *c);

/* After the handshake, the channel binding tls-exporter (RFC 9266): bytes written, 0 if there is none. Before TLS 1.3
 * there is none: servers may know tls-unique only, and nothing tells which. */
size_t client_exporter(const struct client_tls *c, uint8_t out[static CLIENT_EXPORTER]);

#endif
