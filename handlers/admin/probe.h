/*
 * One connection of `pennypost check` to a mail port, as a client sees it: lines out, lines in, with or without TLS.
 * TLS is `openssl s_client` as a child, so that the same few functions speak to both and no TLS library is linked here.
 */
#ifndef ADMIN_PROBE_H
#define ADMIN_PROBE_H

#include <stdint.h>
#include <sys/types.h>

#include "shared/base/buf.h"
#include "shared/io/line.h"
#include "shared/io/transport.h"
#include "shared/io/writer.h"

enum probe_tls {
    PROBE_PLAIN,
    PROBE_STARTTLS,
    PROBE_TLS, /* from the first byte */
};

struct probe {
    int fd;
    pid_t child; /* openssl, or 0 */
    struct transport transport;
    struct writer out;
    struct line_reader in;
    char last[256]; /* last line that came, for the report */
};

struct addrinfo; /* netdb.h */

/* Connects to the first of these addresses that takes it, on `port`. `protocol` is "smtp", "pop3" or "imap" (for
 * STARTTLS). With STARTTLS the greeting has been read when this returns; SMTP and IMAP start anew, POP3 goes on.
 * Certificates are not verified: a self-signed one is what a new machine has. 0; of the last address -ECONNREFUSED,
 * -ETIMEDOUT, ... */
int probe_open(struct probe *p, const struct addrinfo *to, uint16_t port, enum probe_tls tls, const char *protocol);
void probe_close(struct probe *p);

/* Sends the text and CRLF. 0 or a negative errno. */
int probe_send(struct probe *p, const char *format, ...) _printf_(2, 3);

/* The next line, good until the next call. 0, -ENODATA (connection closed), -ETIMEDOUT, ... */
int probe_line(struct probe *p, struct str *ret);

#endif
