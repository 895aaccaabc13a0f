/*
 * Log: one event, one line of key=value words; the only module with global state. Only programs log, libraries return
 * errors. Under systemd the line goes to the journal as a native datagram with one field per key (PENNYPOST_KEY=...,
 * well-known keys under their own names: MESSAGE_ID, QUEUE_ID, REMOTE_ADDR, AUTH_USER, TLS_VERSION), elsewhere to
 * syslog(3)'s socket with facility mail, on a terminal or without either to standard error. Values that came from
 * outside are escaped: blanks, quotes and anything not printable ASCII; secrets are never passed in.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <syslog.h>

#include "shared/base/str.h"

struct log_field {
    const char *key; /* lower case letters, digits, underscore */
    struct str value;
};

#define LOG_F(k, v) ((struct log_field){(k), (v)})
#define LOG_FC(k, c) ((struct log_field){(k), str_from(c)})

/* Opens the sink; call before a chroot or a seccomp filter. `ident` is the program's name (must outlive the log).
 * Under inetd fd 2 is the client: pass stderr_ok=false where fd 2 may be a socket, then it is never written. */
void log_open(const char *ident, bool stderr_ok);

/* The fd of the sink or -1: a sandbox must keep it open. */
int log_fd(void);

/* Remembers a field that goes with every later line: peer, session id, user. At most 8; same key replaces. */
void log_context(const char *key, struct str value);

/* Writes a line "EVENT key=value ...". Level as in syslog. errno is kept. */
void log_event(int level, const char *event, const struct log_field *fields, size_t count);

#define LOG_EVENT(level, event, ...)                                                                                   \
    log_event((level), (event), (const struct log_field[]){__VA_ARGS__},                                               \
              sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

/* The same with the text of a (positive or negative) errno as error=. */
#define LOG_ERROR(level, event, err, ...)                                                                              \
    LOG_EVENT((level), (event), LOG_FC("error", strerror((err) < 0 ? -(err) : (err))), ##__VA_ARGS__)

#endif
