/*
 * The connection of relay-session: commands out, replies in, each with the time-out that RFC 5321 4.5.3.2 gives it. A
 * reply has its time as a whole, not for each byte; so has the message. After the first failure the connection is gone,
 * and every further call says so.
 */
#ifndef RELAY_WIRE_H
#define RELAY_WIRE_H

#include "handlers/relay/ehlo.h"
#include "handlers/relay/reply.h"
#include "shared/crypto/client.h"
#include "shared/io/line.h"
#include "shared/io/transport.h"
#include "shared/io/writer.h"

struct wire {
    struct transport transport;
    struct writer out;
    struct line_reader in;
    struct reply_parser parser;
    struct client_tls *tls; /* owned; NULL in the clear */
    struct ehlo ehlo;       /* of the last EHLO */
    uint32_t percent;       /* of the time-outs */
    struct talk_reply lost; /* why the connection is gone, when is_gone */
    bool is_gone;
    bool is_closing; /* 421 was said */
};

/* Takes a connected socket (borrowed). wire_finish() frees what it holds. */
void wire_init(struct wire *w, int fd, uint32_t percent);
void wire_finish(struct wire *w);

/* Adds a command (without CRLF) to what is sent next. Errors stick and show with the next reply. */
void wire_command(struct wire *w, const char *format, ...) _printf_(2, 3);

/* Reads the next reply; everything added is sent first. 0 with *ret; else a negative errno, the connection is gone, and
 * *ret is our own 4xx that says why. A 421 is a reply like others, and sets is_closing (RFC 5321 3.8). */
int wire_reply(struct wire *w, enum talk_phase phase, struct talk_reply *ret);

/* The same for EHLO: what is offered goes to w->ehlo. */
int wire_reply_ehlo(struct wire *w, struct talk_reply *ret);

/* Gives the message that will be sent next the time that so many bytes may take at most. */
void wire_allow(struct wire *w, uint64_t bytes);

/* The connection is of no use any more, for a reason of ours. */
void wire_drop(struct wire *w, const struct talk_reply *why);

#endif
