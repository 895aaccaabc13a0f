/*
 * The client's side of one SMTP conversation with our own server: over its unix socket, or with a `smtp-session -bs`
 * that we started ourselves because nothing listens.
 */
#ifndef SENDMAIL_CLIENT_H
#define SENDMAIL_CLIENT_H

#include <stdbool.h>
#include <stdio.h>

#include "shared/base/conf.h"
#include "shared/gate/chain.h"
#include "shared/io/line.h"
#include "shared/io/transport.h"
#include "shared/io/writer.h"

#define CLIENT_TEXT 1024 /* of a reply that is kept */

struct client_reply {
    unsigned code;          /* 0: none yet */
    char text[CLIENT_TEXT]; /* of all lines, with the enhanced code; separated by blanks */
};

struct client {
    int fd;
    bool is_direct;           /* nobody listens: we talk to a session with our own rights */
    int connect_error;        /* why, then */
    struct chain_child child; /* that session */
    struct transport transport;
    struct writer writer;
    struct line_reader reader;
    FILE *transcript; /* what is said, line by line; borrowed, or NULL */

    /* What EHLO offered. */
    bool has_dsn, has_8bit, has_utf8, has_size;

    void (*on_line)(void *context, struct str line); /* sees each line of a reply, without its code; may be NULL */
    void *context;
};

/* Connects to conf->submit_socket; where nothing listens there, starts a session of our own on a socket pair, unless
 * `socket_only`. Nothing is said yet. 0 or a negative errno. */
int client_connect(struct client *c, const struct conf *conf, bool socket_only, FILE *transcript);

/* The same with the greeting and EHLO, again and again for a while where the server has no room for us. 0, -EPROTO with
 * the refusal in *ret, or another negative errno; client_close() is due in any case. */
int client_open(struct client *c, const struct conf *conf, FILE *transcript, struct client_reply *ret);

/* Sends a command line (without its end) and reads the reply, which may be negative. 0 or a negative errno. */
int client_command(struct client *c, struct client_reply *ret, const char *format, ...) _printf_(3, 4);
int client_line(struct client *c, struct str line, struct client_reply *ret);
int client_reply(struct client *c, struct client_reply *ret);

/* Message text with LF line ends: dots stuffed, CRLF (RFC 5321 4.5.2). *at_start: are we at the start of a line? */
int client_text(struct client *c, struct str text, bool *at_start);

/* QUIT, without waiting for long, and the end of the child. */
void client_close(struct client *c);

static inline bool client_is_ok(const struct client_reply *r)
{
    return r->code >= 200 && r->code < 400;
}

#endif
