/*
 * Every frame of the chain, who sends it to whom, and what it carries. Fields in order; s = string, u = u32, U = u64,
 * [fd] = with one fd. A frame that the permit table of the monitor does not allow in the current phase kills the
 * connection; every receiver validates every field again.
 *
 * The order of one connection (M monitor, T tls, F login stage or smtp-session, A auth, S session, K keeper):
 *   M->F PROXY_WANTED, F->M PROXY                            only behind a trusted proxy, before anything else
 *   M->T TLS_CONFIG, TLS_FILE..., TLS_GO; T->M TLS_FACTS     implicit TLS: before F hears LOGIN_START
 *   M->F LOGIN_START
 *   F->M STARTTLS, M->F TLS_STARTED [fd]                     F answers the client, then waits for
 *   (T as above)  M->F LOGIN_START                           with TLS active
 *   F->M AUTH_START, M->A AUTH_REQUEST, A->M AUTH_DONE, M->S SESSION_USER, SESSION_START; F leaves; M becomes K
 *   the same with questions: A->M->F AUTH_CHALLENGE, F->M->A AUTH_RESPONSE, ..., A->M AUTH_DONE, M->S SESSION_USER;
 *   M->F AUTH_DONE, F->M HANDOVER, F leaves; M->S SESSION_START; M becomes K
 *   S->K KEEPER_*
 */
#ifndef IO_FRAME_TYPES_H
#define IO_FRAME_TYPES_H

enum frame_type {
    /* monitor -> login stage: what it may say and offer. The monitor of POP3 and IMAP greets the client itself.
     * s peer address, s local address, u TLS active (0/1), u TLS can be started (0/1), u plaintext passwords allowed
     * (0/1), s SASL mechanisms that can succeed (blank-separated), s hostname, s APOP challenge with its brackets or
     * "", s capabilities as the protocol writes them */
    FRAME_LOGIN_START = 1,
    /* login stage -> monitor: start TLS on the connection (no fields). Answer FRAME_TLS_STARTED [fd] or FRAME_REFUSED.
     */
    FRAME_STARTTLS,
    /* monitor -> login stage: [fd] replaces the connection, after the login stage has told the client to go ahead on
     * the old one (no fields). With implicit TLS behind a proxy it comes unasked. FRAME_LOGIN_START follows once the
     * handshake is done. */
    FRAME_TLS_STARTED,
    /* login stage -> monitor: u attempt (ascending from 1; those that the
     * front refuses by itself are left out), s mechanism, s initial response decoded, u has initial response
     * (0/1). USER/PASS and IMAP's command LOGIN are mechanism PLAIN with the response made by the login stage; SASL's
     * mechanism LOGIN stays LOGIN, with a response like PLAIN's, and challenges may follow for what PAM asks besides;
     * APOP is mechanism APOP with the response "user digest".
     * Behind these: u the rest is there (0/1; smtp-session: 0), and what FRAME_HANDOVER would bring. It counts for an
     * attempt that succeeds without a challenge and without final data: then no answer comes. */
    FRAME_AUTH_START,
    /* auth -> monitor -> login stage: u attempt, s challenge (not encoded) */
    FRAME_AUTH_CHALLENGE,
    /* login stage -> monitor -> auth: u attempt, s response (decoded) */
    FRAME_AUTH_RESPONSE,
    /* login stage -> monitor: the client cancelled ("*"): u attempt. Answer FRAME_AUTH_FAILED. */
    FRAME_AUTH_CANCEL,
    /* auth -> monitor -> login stage: u attempt, u class (enum auth_class), s text for the client, s user as claimed,
     * s reason for the log (the monitor empties the last two when it hands the frame on). auth leaves after it. */
    FRAME_AUTH_FAILED,
    /* auth -> monitor -> login stage: u attempt, s user as PAM and the name service name him, s messages for the client
     * (one a line), s final SASL data that goes with success (SCRAM's server signature, not encoded). Behind these, for
     * the monitor only: u uid, u gid, s groups (a u32 each), s home. auth leaves after it, when the monitor shuts its
     * side or a moment later, or, when it opened a PAM session, when the control socket closes. */
    FRAME_AUTH_DONE,
    /* login stage -> monitor, its last frame, where FRAME_AUTH_START could not bring it yet: s input not consumed, s
     * protocol data for the session (IMAP: the tag) */
    FRAME_HANDOVER,
    /* monitor -> session, first frame on its control fd, when somebody has logged in: [fd] the connection, u pid of the
     * monitor, and who the session becomes before it does anything else: u uid, u gid, s groups (a u32 each) */
    FRAME_SESSION_USER,
    /* monitor -> session, behind it: s user, s home, s peer address, s local address, u TLS active,
     * s TLS description, s unconsumed input, s protocol data, s messages for the client */
    FRAME_SESSION_START,
    /* monitor -> any: the request cannot be done now: u errno, s text for the log */
    FRAME_REFUSED,
    /* login stage, tls -> monitor: something for the log: u event (enum note_event), s what the client sent (capped by
     * LIMIT_NOTE, escaped by the log). More than LIMIT_NOTES of them kill the connection. */
    FRAME_NOTE,
    /* monitor -> login stage: a trusted proxy called: read its PROXY header first (no fields) */
    FRAME_PROXY_WANTED,
    /* login stage -> monitor: s client address, u client port, s local address, u local port; all "" and 0 for a
     * connection of the proxy itself (LOCAL, UNKNOWN) */
    FRAME_PROXY,

    /* monitor -> tls. fd 0 and 1: the network; fd 3: control; fd 4: the inner end.
     * s peer address (for SSL's log), u handshake seconds, u ask for a client certificate (0/1), s ALPN names
     * (blank-separated, "" none) */
    FRAME_TLS_CONFIG,
    /* monitor -> tls: [fd] a file opened for reading: u kind (enum tls_file), s path (for messages only) */
    FRAME_TLS_FILE,
    /* monitor -> tls: that is all, drop privileges, do the handshake (no fields) */
    FRAME_TLS_GO,
    /* tls -> monitor once, after the handshake: s version, s cipher, s client certificate subject or "", s tls-exporter
     * binding, s tls-server-end-point binding, s ALPN (one of ours), u session was resumed (0/1). Nothing in it is the
     * client's own wording: the name that it calls us (SNI) stays in tls. */
    FRAME_TLS_FACTS,
    /* tls -> monitor: the handshake failed or nothing to start with: u it is our own fault (0/1: files, set-up), u
     * OpenSSL's reason or 0, s reason for the log where that has no better words */
    FRAME_TLS_FAILED,

    /* session -> keeper. Answer FRAME_KEEPER_OK or FRAME_KEEPER_ERROR (u errno). No path ever: the keeper knows the one
     * spool file it serves. */
    FRAME_KEEPER_LOCK,   /* u seconds to try at most (one try: 0): take the dotlock of the spool file */
    FRAME_KEEPER_UNLOCK, /* release it; no answer */
    FRAME_KEEPER_CREATE, /* create the spool file if it does not exist, user:mail 0660 */
    FRAME_KEEPER_OK,
    FRAME_KEEPER_ERROR,
    /* monitor -> keeper, which is itself after exec: u uid, u gid, s groups (a u32 each), s home */
    FRAME_KEEPER_USER,

    /* smtp, relay -> deliver on its fd 0, one letter at a time (shared/route/postman.h): [fd] the message, s sender (""
     * null path), s recipient, u it may be there from an earlier attempt (0/1), s the message if there is no fd. The
     * answer: */
    FRAME_DELIVER_LETTER,
    FRAME_DELIVER_VERDICT, /* s "CODE ENHANCED TEXT"; with 250 it is durably in its place. From deliver to deliver
                            * (handlers/deliver/share.h) "": nothing was done, do it yourself */

    /* monitor -> auth, first frame (auth: fd 0, 1 /dev/null, fd 3 control): u attempt, s service ("imap", "pop3",
     * "smtp"), s mechanism, s initial response, u has initial response, s peer address, s APOP challenge or "", u TLS
     * active, s tls-exporter binding, s tls-server-end-point binding, s client certificate subject. What configuration
     * says (min_uid, pam_session, ...) auth reads itself.
     * Then FRAME_AUTH_RESPONSE and FRAME_AUTH_CHALLENGE as above; auth ends with FRAME_AUTH_FAILED or FRAME_AUTH_DONE.
     * Delays after failures are the monitor's: auth answers as soon as it knows. */
    FRAME_AUTH_REQUEST,
    /* auth, started for nothing else -> monitor: u uid, u gid of a service account */
    FRAME_ACCOUNT,

    /* any trusted process -> resolve and back, see shared/dns/answer.h. Several questions may be under way; answers
     * come in any order. resolve leaves when its control socket closes. */
    FRAME_DNS_QUESTION,
    FRAME_DNS_ANSWER,

    /* any trusted process -> sts, one policy file to fetch: [fd] certificate authorities (PEM), s domain, u count, s
     * address... Answer: */
    FRAME_STS_FETCH,
    FRAME_STS_POLICY, /* see sts_policy_put() */
    FRAME_STS_FAILED, /* s result type of RFC 8460 4.3, s words for the log */

    /* smtp-session -> its monitor and back: from here, defined in handlers/smtp */
    FRAME_SMTP_FIRST = 64,
    /* relay and relay-session: from here, defined in handlers/relay */
    FRAME_RELAY_FIRST = 128,
};

/* Why a login failed; each protocol has its words for it (RFC 3206, RFC 5530, RFC 4954 6). */
enum auth_class {
    AUTH_CLASS_CREDENTIALS = 1, /* unknown user or wrong password: the same to the client */
    AUTH_CLASS_EXPIRED,         /* account or password expired */
    AUTH_CLASS_DENIED,          /* not allowed: system account, access rules, nologin for good */
    AUTH_CLASS_AUTHORIZATION,   /* who he says he is, but asks to act for somebody else (RFC 4422 2) */
    AUTH_CLASS_TEMPORARY,       /* PAM or a back end is unavailable, nologin, time-out */
    AUTH_CLASS_MECHANISM,       /* unknown mechanism or malformed exchange */
    AUTH_CLASS_CANCELLED,
};

/* What FRAME_TLS_FILE carries. Certificates and keys alternate: each key belongs to the chain before it; the first pair
 * is used when no SNI name matches. */
enum tls_file {
    TLS_FILE_CERTIFICATE = 1, /* PEM chain */
    TLS_FILE_KEY,             /* PEM private key */
    TLS_FILE_TICKETS,         /* session ticket keys shared by all processes */
    TLS_FILE_CLIENT_CA,       /* PEM: authorities of client certificates */
};

/* What FRAME_NOTE tells. */
enum note_event {
    NOTE_INJECTION = 1,  /* the client sent data behind STARTTLS, in the clear */
    NOTE_WRONG_PROTOCOL, /* it speaks HTTP, TLS or noise at us */
    NOTE_BAD_COMMANDS,   /* too many in a row */
    NOTE_TIMEOUT,        /* no command for too long */
    NOTE_TLS_CLOSED,     /* TLS ended in a way worth telling: alert, truncation */
    NOTE_CERTIFICATE,    /* our certificate is expired or not yet valid */
};

#endif
