/*
 * Every frame of the chain, who sends it to whom, and what it carries. Fields in order; s = string, u = u32, U = u64,
 * [fd] = with one fd. A frame that the permit table of the monitor does not allow in the current phase kills the
 * connection; every receiver validates every field again.
 */
#ifndef IO_FRAME_TYPES_H
#define IO_FRAME_TYPES_H

enum frame_type {
    /* monitor -> login stage, first frame: what it may say and offer.
     * s peer address, s local address, u TLS active (0/1), u TLS can be started (0/1), u plaintext passwords allowed
     * (0/1), s SASL mechanisms that can succeed (blank-separated), s hostname */
    FRAME_LOGIN_START = 1,
    /* login stage -> monitor: start TLS on the connection (no fields). Answer FRAME_TLS_STARTED [fd] or FRAME_REFUSED. */
    FRAME_STARTTLS,
    /* monitor -> login stage: [fd] replaces the connection; fields as FRAME_LOGIN_START. */
    FRAME_TLS_STARTED,
    /* login stage -> monitor: u attempt, s mechanism, s initial response, u has initial response (0/1). USER/PASS and
     * LOGIN are mechanism PLAIN with the response made by the login stage. */
    FRAME_AUTH_START,
    /* monitor -> login stage: u attempt, s challenge */
    FRAME_AUTH_CHALLENGE,
    /* login stage -> monitor: u attempt, s response */
    FRAME_AUTH_RESPONSE,
    /* login stage -> monitor: the client cancelled ("*"): u attempt. Answer FRAME_AUTH_FAILED. */
    FRAME_AUTH_CANCEL,
    /* monitor -> login stage: u attempt, u class (enum auth_class), s text for the client */
    FRAME_AUTH_FAILED,
    /* monitor -> login stage: u attempt, s user as PAM named it, s messages for the client (one a line), s final SASL
     * data that goes with success (SCRAM's server signature), base64 */
    FRAME_AUTH_DONE,
    /* login stage -> monitor, its last frame: s input not consumed, s protocol data for the session (IMAP: the tag) */
    FRAME_HANDOVER,
    /* monitor -> session, first frame on its control fd: s user, s peer address, s local address, u TLS active,
     * s TLS description, s unconsumed input, s protocol data, s messages for the client */
    FRAME_SESSION_START,
    /* monitor -> any: the request cannot be done now: u errno, s text for the log */
    FRAME_REFUSED,

    /* tls -> monitor once, after the handshake: s version, s cipher, s SNI, s client certificate subject or "",
     * s tls-exporter binding, s tls-server-end-point binding, s ALPN */
    FRAME_TLS_FACTS,
    /* tls -> monitor: the handshake failed: s reason for the log */
    FRAME_TLS_FAILED,

    /* session -> keeper. Answer FRAME_KEEPER_OK or FRAME_KEEPER_ERROR (u errno). No path ever: the keeper knows the one
     * spool file it serves. */
    FRAME_KEEPER_LOCK,   /* u seconds to try at most (one try: 0): take the dotlock of the spool file */
    FRAME_KEEPER_UNLOCK, /* release it */
    FRAME_KEEPER_CREATE, /* create the spool file if it does not exist, user:mail 0660 */
    FRAME_KEEPER_OK,
    FRAME_KEEPER_ERROR,

    /* monitor -> auth, first frame: s service, s mechanism, s initial response, u has initial response, s peer address,
     * s tls-exporter binding, s tls-server-end-point binding, s client certificate subject, u min uid, u pam_session.
     * Then FRAME_AUTH_RESPONSE and FRAME_AUTH_CHALLENGE as above; auth ends with FRAME_AUTH_FAILED or FRAME_AUTH_DONE. */
    FRAME_AUTH_REQUEST,

    /* smtp-session -> its monitor and back: from here, defined in handlers/smtp */
    FRAME_SMTP_FIRST = 64,
};

/* Why a login failed; each protocol has its words for it (RFC 3206, RFC 5530, RFC 4954 6). */
enum auth_class {
    AUTH_CLASS_CREDENTIALS = 1, /* unknown user or wrong password: the same to the client */
    AUTH_CLASS_EXPIRED,         /* account or password expired */
    AUTH_CLASS_DENIED,          /* not allowed: system account, access rules, nologin for good */
    AUTH_CLASS_TEMPORARY,       /* PAM or a back end is unavailable, nologin, time-out */
    AUTH_CLASS_MECHANISM,       /* unknown mechanism or malformed exchange */
    AUTH_CLASS_CANCELLED,
};

#endif
