/*
 * F, the login stage of pop3 and imap: own uid, empty root, no capabilities, seccomp. It talks to a stranger until the
 * monitor has an authenticated user, then hands everything over and leaves. What differs between the protocols is a
 * command table and a few callbacks; handlers/imap/login.c and handlers/pop3/login.c hold them.
 */
#ifndef LOGIN_LOGIN_H
#define LOGIN_LOGIN_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/limits.h"
#include "shared/io/dispatch.h"
#include "shared/io/frame_types.h"
#include "shared/io/line.h"
#include "shared/login/sasl.h"

/* FRAME_LOGIN_START, read; smtp-session uses it too. Strings are C strings. */
struct login_facts {
    char peer[LIMIT_ADDRESS];
    char local[LIMIT_ADDRESS];
    bool is_tls;
    bool can_tls;           /* STARTTLS may be offered */
    bool plaintext_allowed; /* a password may be sent now */
    char mechanisms[256];   /* blank-separated, those that can succeed now */
    char hostname[256];
    char apop[128];         /* "<...>" or "" */
    char capabilities[512]; /* words (IMAP), lines ended by CRLF (POP3), nothing (others) */
};

/* Waits for FRAME_LOGIN_START, answering FRAME_PROXY_WANTED and taking an implicit FRAME_TLS_STARTED in between (then
 * *connection is replaced). 0, -EPROTO (no PROXY header where one is due), -EBADMSG, -ENODATA, -ETIMEDOUT, ... */
int login_facts_receive(int control, int *connection, int timeout_ms, struct login_facts *ret);

/* STARTTLS in three steps. Asks the monitor: 0 and the new connection in *ret_fd; -EPROTO: the client has sent
 * something behind the command (the monitor has been told; cut it off); -EOPNOTSUPP: refused. Then the caller tells the
 * client to go ahead, flushes, switches its transport to ret_fd, calls line_discard(), and receives the new facts. */
int login_starttls(int control, struct line_reader *in, int *ret_fd);

/* Sends FRAME_NOTE; errors do not matter to the sender. */
void login_note(int control, enum note_event event, struct str text);

struct login;

/* What a handler of a command returns. */
enum login_outcome {
    LOGIN_OK,    /* answered */
    LOGIN_BAD,   /* answered, and it counts against LIMIT_BAD_COMMANDS */
    LOGIN_LEAVE, /* answered, the connection ends (LOGOUT, QUIT, cut off) */
    LOGIN_DONE,  /* authenticated: hand over */
};

struct login_protocol {
    const char *name; /* "imap-login" */
    size_t line_max;
    /* Handles one command line; an enum login_outcome, or a negative errno that ends the connection. */
    int (*line)(struct login *l, struct str line);
    /* Says why the connection ends: -ETIMEDOUT, -ENOBUFS (line too long, may go on), -EBADMSG (NUL, may go on),
     * -E2BIG (too many bad commands). Returns an enum login_outcome. */
    int (*complain)(struct login *l, int error);
    /* Appends what the session is to know (FRAME_HANDOVER); may be NULL. */
    void (*leave)(const struct login *l, struct buf *out);
    /* Answers an attempt that has failed: a success is the session's to answer. An enum login_outcome or a negative
     * errno. */
    int (*conclude)(struct login *l, const struct sasl_outcome *o);
};

struct login {
    const struct login_protocol *protocol;
    int control;
    int connection;
    struct transport transport;
    struct line_reader in;
    struct writer out;
    struct login_facts facts;
    uint32_t attempts;
    unsigned bad;
    struct buf user;          /* POP3: of USER */
    struct buf tag;           /* IMAP: of the current command */
    bool has_literal;         /* IMAP: the line read last ends with the head of a literal that comes unasked */
    bool is_utf8;             /* POP3: the client has given UTF8 */
    struct buf protocol_data; /* for the session */
};

/* main() of a login stage, after confine_enter(). The exit status: 0, or 70 when the monitor or our own set-up failed.
 */
#define LOGIN_PAUSE_MS 10 /* between its last frame and its end, at most */
int login_main(const struct login_protocol *p);

/* The same on other fds, for tests; closes the connection. */
int login_run(const struct login_protocol *p, int control, int connection);

/* Helpers for the tables. STARTTLS/STLS with `go_ahead` as the positive and `refused` as the negative answer. An enum
 * login_outcome or a negative errno. */
int login_do_starttls(struct login *l, const char *go_ahead, const char *refused);

/* An attempt with a name and what goes with it ("PLAIN": a password, "APOP": a digest), then conclude(). */
int login_try(struct login *l, struct str mechanism, struct str user, struct str secret);

/* AUTH or AUTHENTICATE, "+ " and base64 both ways, then conclude(). -EINVAL: the arguments are no mechanism with
 * perhaps an initial response behind it. */
int login_exchange(struct login *l, struct str arguments);

#endif
