/*
 * The byte relay of `tls`: network (TLS) on one side, the clear inner socket on the other.
 */
#ifndef TLS_RELAY_H
#define TLS_RELAY_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

#define RELAY_BUFFER (16u << 10) /* one TLS record */

/* Bytes on their way in one direction. */
struct relay_half {
    unsigned char *data; /* RELAY_BUFFER bytes, page-aligned */
    size_t start;
    size_t end;
    bool is_eof;    /* the source has ended */
    bool is_closed; /* the sink has been told, or is gone */
};

struct relay {
    SSL *ssl;
    int network;
    int inner;
    struct relay_half in;  /* network to inner */
    struct relay_half out; /* inner to network */
    bool read_wants_write; /* SSL_read() waits until the network takes bytes */
    bool write_wants_read; /* SSL_write() waits for bytes from the network */
    bool is_used;          /* the buffers have been touched since they were last given back */
};

/* Relays until both directions have ended, with half-close: the end of one side is handed on to the other, which may
 * still send. 0, -ETIMEDOUT (the network takes nothing any more), -EPROTO (a TLS error), or another negative errno. */
int relay_run(SSL *ssl, int network, int inner);

#endif
