/*
 * M, the monitor: root, libc only, never reads the client's socket. It starts the front (F: a login stage, or
 * smtp-session), T and A, checks each of their frames against a permit table, and keeps the verified facts. One loop
 * serves pop3, imap and smtp; what differs is a struct monitor_protocol.
 *
 * Phases: the front may ask for other things before TLS is up than during an attempt, and so on:
 *   PROXY      a trusted proxy called: only FRAME_PROXY
 *   HANDSHAKE  T is busy: the front may say nothing
 *   OPEN       not logged in: STARTTLS, AUTH_START
 *   AUTH       an attempt runs: AUTH_RESPONSE, AUTH_CANCEL
 *   WAIT       an attempt failed, its answer is being delayed: nothing
 *   DONE       logged in: HANDOVER
 */
#ifndef GATE_MONITOR_H
#define GATE_MONITOR_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/conf.h"
#include "shared/gate/chain.h"
#include "shared/gate/peer.h"
#include "shared/gate/permit.h"
#include "shared/gate/start.h"
#include "shared/gate/tls.h"
#include "shared/io/frame.h"

enum monitor_phase {
    MONITOR_PROXY,
    MONITOR_HANDSHAKE,
    MONITOR_OPEN,
    MONITOR_AUTH,
    MONITOR_WAIT,
    MONITOR_DONE,
    MONITOR_END, /* the loop leaves */
};

#define MONITOR_IN(phase) (1u << (phase))

struct monitor;

/* What is announced on this connection now. */
struct monitor_offer {
    bool can_tls;           /* STARTTLS */
    bool plaintext_allowed; /* a password without it */
    struct str mechanisms;  /* blank-separated, the strongest first */
};

struct monitor_protocol {
    const char *service;       /* "imap", "pop3", "smtp": PAM service pennypost-<service>, word in the log */
    const char *ident;         /* name in the log: "imapd", "ipop3d" as fail2ban and other readers of logs know them */
    const char *front;         /* program on the client's side: "imap-login", "smtp-session" */
    const char *front_account; /* told to it by chain_spawn(); NULL: it looks for itself */
    const char *front_arguments[8];
    bool front_takes_conf; /* hand it the -o and -c options */
    const char *alpn;      /* "imap" */
    /* Appends the greeting, with its line end. The monitor says it as soon as nothing has to come before it (a proxy's
     * header, TLS): the client has it while the front still starts. NULL: the front does. 0 or a negative errno. */
    int (*greet)(const struct monitor *m, const struct monitor_offer *offer, struct buf *out);
    /* Appends the capabilities before login, which the front hands on as they are. NULL: it needs none. */
    int (*capabilities)(const struct monitor *m, const struct monitor_offer *offer, struct buf *out);
    int deadline;              /* seconds to a login, 0: none (smtp) */
    bool is_for_login;         /* whoever calls is about to log in: A is started ahead of it */
    const struct permit *rows; /* frames of the front besides the common ones; `context` is the struct monitor */
    size_t row_count;
    /* Called when A has been asked, on a connection where it was started ahead, and when an attempt has failed; both
     * may be NULL. */
    void (*asked)(struct monitor *m);
    void (*failed)(struct monitor *m);
    /* Called when the phase becomes DONE; may be NULL. Negative: fatal. */
    int (*authenticated)(struct monitor *m);
    /* Called behind it where the front has told all that the session needs to know: the front is not asked again. */
    int (*ready)(struct monitor *m);
    /* Called behind the loop, before anybody is ended; may be NULL. */
    void (*leaving)(struct monitor *m);
};

struct monitor {
    const struct monitor_protocol *protocol;
    struct conf *conf;
    void *own; /* the protocol's own state */

    /* Verified facts. */
    struct peer real; /* getpeername's */
    struct peer peer; /* the client, as a trusted proxy told it, else the same */
    bool is_tls;
    struct tls_facts tls;
    struct priv_user *user; /* who is logged in, NULL: nobody; as auth has found him, checked again */
    char apop[128];         /* challenge of the greeting, "" none */

    enum monitor_phase phase;
    struct permit_use front_use, own_use, tls_use, auth_use;
    struct chain_child front, tls_child, auth;
    int connection; /* the front's side of the connection: the socket or T's inner end; -1 after it is given away */
    bool is_implicit_tls;
    bool is_greeted;
    uint32_t attempt;   /* number of the current or last attempt */
    char mechanism[32]; /* its mechanism, upper case */
    int64_t attempt_started;
    int64_t deadline; /* clock_monotonic_ms() */
    int64_t auth_deadline;
    int64_t ahead_until; /* A was started ahead of an attempt, and waits so long for one; 0: it was not */
    bool is_ready;      /* the front has told all that the session needs to know: in the two buffers */
    struct buf unread;  /* input of the client that the front has read */
    struct buf left;    /* what the front leaves to its session */
    bool awaits_client; /* auth has asked what only the client can answer */
    bool is_cancelled;  /* the client will not; auth may still say what it knew before it asked */
    int64_t release;    /* when the answer in `held` may go */
    struct frame held;
    struct buf messages; /* PAM's, for the session */
    int throttle; /* the file of failed logins, -1: not opened */
    unsigned notes;
    int error; /* internal failure: exit status */
};

/* Fills *m for a connection found by start_program(). Starts nothing. */
void monitor_init(struct monitor *m, const struct monitor_protocol *p, struct conf *conf, const struct start *start,
                  bool is_implicit_tls);

/* Closes the connection and frees what the struct holds; ends no child. */
void monitor_finish(struct monitor *m);

/* Starts the front (and T) and serves frames until the connection ends or a handler sets MONITOR_END. Ends what it
 * started, except what a handler took out of *m. 0 or a negative errno for an internal failure (it has been logged). */
int monitor_run(struct monitor *m);

/* Tells the front the facts as they are now (FRAME_LOGIN_START), and greets the client if nobody has; the phase becomes
 * OPEN. 0 or a negative errno. */
int monitor_send_facts(struct monitor *m);

/* main() of imap and pop3: start_program, exec of the session for a person, `--tls` for implicit TLS, `--keeper`, the
 * monitor with HANDOVER to `session`, then the keeper. Returns the exit status: 0 unless something of ours failed. */
int monitor_main(const struct monitor_protocol *p, const char *session, int argc, char **argv);

#endif
