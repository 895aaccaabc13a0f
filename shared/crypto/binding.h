/*
 * Channel bindings of both sides of a TLS connection, after the handshake.
 */
#ifndef CRYPTO_BINDING_H
#define CRYPTO_BINDING_H

#include <openssl/ssl.h>
#include <stdint.h>

#define BINDING_EXPORTER 32

/* tls-exporter (RFC 9266): bytes written, 0 if there is none. */
size_t binding_exporter(SSL *ssl, uint8_t out[static BINDING_EXPORTER]);

#endif
