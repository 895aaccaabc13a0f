/*
 * OpenSSL with the algorithms that a TLS server of ours needs, and no others. OpenSSL makes an object of every
 * algorithm of its default provider, some 250 ciphers, hashes and key formats, at the first use of one of their kind:
 * 0.2 MB and 1.5 ms for each connection. A built-in provider here answers with those of the default provider that are
 * named in narrow.c.
 */
#ifndef CRYPTO_NARROW_H
#define CRYPTO_NARROW_H

#include <stdint.h>

/* Initialises OpenSSL for TLS, with the system's configuration and these options of OPENSSL_init_ssl(3), for TLS 1.2
 * and 1.3 servers with RSA, RSA-PSS, ECDSA, Ed25519 and Ed448 certificates. Call once, before anything else of OpenSSL,
 * while its files can be read. Where the configuration chooses providers itself, a certified module for example, these
 * are used as they are; so is the default provider where OpenSSL turns out not to work like this. -ENOMEM: no
 * OpenSSL. */
int narrow_init(uint64_t options);

#endif
