/*
 * What the monitor tells `tls` before the handshake, and what `tls` reports after it.
 */
#ifndef TLS_SETUP_H
#define TLS_SETUP_H

#include "shared/base/limits.h"
#include "shared/crypto/server.h"
#include "shared/io/frame_types.h"

#define SETUP_CONTROL 3
#define SETUP_FILES   (2 * LIMIT_CERTIFICATES + 2)
#define SETUP_ALPN    128
#define SETUP_PATH    256 /* bytes of a path kept for messages */

struct setup_file {
    uint32_t kind; /* enum tls_file */
    int fd;
    char path[SETUP_PATH];
};

struct setup {
    uint32_t seconds; /* for the handshake */
    bool asks_certificate;
    char alpn[SETUP_ALPN];
    struct setup_file files[SETUP_FILES];
    size_t file_count;
    const char *failed; /* after setup_apply() failed: the path of the file */
    struct server server;
};

/* Reads TLS_CONFIG, TLS_FILE..., TLS_GO. 0, -EBADMSG, or an error of frame_recv(). */
int setup_receive(struct setup *s);

/* Parses the files and makes the server; closes the files. *ret_why and s->failed explain a failure. */
int setup_apply(struct setup *s, const char **ret_why);

/* The path of certificate number `which` of the server, for messages. */
const char *setup_certificate(const struct setup *s, size_t which);

/* Sends FRAME_TLS_FACTS of a finished handshake. 0 or a negative errno. */
int setup_report(SSL *ssl);

#endif
