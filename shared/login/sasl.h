/*
 * SASL on the client's side of the chain: the encoding and the dialogue of an exchange for POP3 (RFC 5034), IMAP (RFC
 * 9051 6.2.2) and SMTP (RFC 4954). Proofs are made and checked elsewhere: this only carries messages between the client
 * and the monitor. Mechanism LOGIN asks its two questions here and goes to the monitor as LOGIN, with the message of
 * PLAIN: what auth asks besides is asked as in any exchange.
 */
#ifndef LOGIN_SASL_H
#define LOGIN_SASL_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/str.h"
#include "shared/io/line.h"

/* How the protocol talks to the client during an exchange. */
struct sasl_client {
    void *context;
    int (*challenge)(void *context, struct str base64);   /* sends "+ ..." or "334 ..." */
    int (*response)(void *context, struct str *ret_line); /* reads the client's line; -ENOBUFS, -EBADMSG end the
                                                           * exchange as malformed, other errors end the connection */
};

/* What the session is to have of an attempt that succeeds without a question of the monitor's. It goes with the
 * attempt, and then no answer comes but the end of the control socket: nothing more is needed of us. */
struct sasl_ahead {
    const struct line_reader *in; /* its input that nobody has looked at; NULL: nothing goes ahead */
    const struct buf *left;       /* what the protocol leaves to its session */
};

struct sasl_outcome {
    bool is_done;        /* FRAME_AUTH_DONE came */
    uint32_t auth_class; /* else enum auth_class */
    bool is_offered;     /* AUTH, AUTHENTICATE: by a mechanism that may be used */
    struct buf text;     /* else text for the client: printable, one line */
    struct buf user;     /* if done */
    struct buf messages; /* if done: for the client, a line each */
};

#define SASL_OUTCOME_INIT                                                                                              \
    ((struct sasl_outcome){.text = BUF_INIT(1024), .user = BUF_INIT(LIMIT_USER), .messages = BUF_INIT(LIMIT_FRAME)})
#define _cleanup_sasl_outcome_ _cleanup_(sasl_outcome_finish)

/* Frees the buffers. */
void sasl_outcome_finish(struct sasl_outcome *o);

/* AUTH / AUTHENTICATE: runs the exchange to its end. `initial`: the initial response as the client sent it, base64, "="
 * for an empty one, the null view for none. 0 with *ret filled; a negative errno ends the connection (control socket or
 * client gone). `mechanisms`: those allowed; another one is answered with AUTH_CLASS_MECHANISM without asking. */
int sasl_exchange(int control, uint32_t attempt, struct sasl_ahead ahead, struct str mechanisms, struct str mechanism,
                  struct str initial, const struct sasl_client *client, struct sasl_outcome *ret);

/* IMAP's LOGIN, USER and PASS: mechanism PLAIN with this name and password. APOP (RFC 1939 7): with its name and
 * digest.
 */
int sasl_secret(int control, uint32_t attempt, struct sasl_ahead ahead, struct str mechanism, struct str user,
                struct str secret, struct sasl_outcome *ret);

#endif
