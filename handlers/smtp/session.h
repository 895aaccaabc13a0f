/*
 * smtp-session: one SMTP, submission or LMTP dialogue. Private to the files of that program.
 */
#ifndef SMTP_SESSION_H
#define SMTP_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "handlers/smtp/backend.h"
#include "handlers/smtp/data.h"
#include "handlers/smtp/intake.h"
#include "handlers/smtp/param.h"
#include "shared/base/conf.h"
#include "shared/base/limits.h"
#include "shared/io/dispatch.h"
#include "shared/io/line.h"
#include "shared/io/transport.h"
#include "shared/io/writer.h"
#include "shared/login/login.h"

enum smtp_state {
    SMTP_START,   /* no greeting yet */
    SMTP_GREETED, /* HELO, EHLO or LHLO: no transaction */
    SMTP_MAIL,    /* MAIL was accepted */
    SMTP_RCPT,    /* at least one RCPT was accepted */
    SMTP_CHUNKS,  /* between the first BDAT and its LAST */
};

#define SMTP_IN(state) (1u << (state))
#define SMTP_ANYWHERE                                                                                                  \
    (SMTP_IN(SMTP_START) | SMTP_IN(SMTP_GREETED) | SMTP_IN(SMTP_MAIL) | SMTP_IN(SMTP_RCPT) | SMTP_IN(SMTP_CHUNKS))

enum smtp_kind {
    SMTP_KIND_MX,         /* port 25 or a pipe */
    SMTP_KIND_SUBMISSION, /* RFC 6409: after AUTH only */
    SMTP_KIND_LMTP,       /* RFC 2033 */
    SMTP_KIND_LOCAL,      /* sendmail(8): a program of a user of this machine, known by the kernel's word */
};

struct smtp_transaction {
    struct buf id;
    struct buf sender;
    struct mail_params params;
    struct buf recipient; /* the first one */
    size_t recipients;    /* accepted */
};

struct smtp_message {
    bool is_open;
    struct intake in;
    struct buf from, sender; /* what a submission says it is from */
    struct data_reader reader;
    struct smtp_answer refusal; /* of a file for a larger message; code 0: none */
};

struct smtp_session {
    struct conf *conf;
    enum smtp_kind kind;
    struct smtp_backend backend;
    struct transport transport;
    struct writer writer;
    struct line_reader reader;

    /* The monitor, and what it told. */
    int control; /* -1 on a pipe */
    struct login_facts facts;
    int (*learn_facts)(struct smtp_session *s); /* receives them anew */

    /* Facts about the connection. */
    char peer[LIMIT_ADDRESS]; /* "" on a pipe */
    uid_t uid;                /* of the local program on a pipe or unix socket */
    bool is_pipe;
    bool is_lenient;             /* a real pipe or terminal: LF alone ends a line */
    bool is_near;                /* loopback, unix socket or pipe: early talk is a script, not a robot */
    char name[LIMIT_DOMAIN + 1]; /* of the peer, as a trusted client told it, or "" */
    bool can_xclient;
    bool has_atrn;              /* there is mail that users fetch */
    bool wants_hello;           /* the backend wants to know the name of HELO */
    char unwelcome[LIMIT_NOTE]; /* why the client is turned away at once, "" */
    bool is_tls;
    char cipher[64];
    int stop_fd; /* readable when the service stops, or -1 */

    /* State of the dialogue. */
    enum smtp_state state;
    bool is_esmtp;
    bool is_over;  /* leave the loop after this reply */
    bool has_quit; /* by QUIT */
    int error;     /* why the loop was left otherwise */
    unsigned bad;  /* failed commands in a row */
    struct buf helo;
    char *user;            /* authenticated, or NULL */
    uint32_t attempts;     /* to authenticate */
    bool is_response_long; /* the last line of an exchange was cut */
    struct smtp_transaction txn;
    size_t lost; /* recipients of a transaction that a chunk has ended before BDAT LAST; nothing has begun since */
    struct smtp_message message;

    /* For the summary line. */
    uint64_t messages, commands, refused;
};

/* session.c */

/* Serves until the client leaves. Writes the greeting first. */
void session_run(struct smtp_session *s);

/* Writes one reply line; `enhanced` may be "". 4xx and 5xx count as failures in a row, 2xx and 3xx end the row. */
void session_reply(struct smtp_session *s, unsigned code, const char *enhanced, const char *format, ...) _printf_(4, 5);
void session_answer(struct smtp_session *s, const struct smtp_answer *a);

/* One line of a reply of several; the last one goes through session_reply(). */
void session_reply_line(struct smtp_session *s, unsigned code, const char *format, ...) _printf_(3, 4);

/* Ends the session with 421 because something of ours broke. */
void session_fail(struct smtp_session *s, int error);

/* Forgets the transaction; the state becomes SMTP_GREETED or stays SMTP_START. */
void session_reset(struct smtp_session *s);

/* Refuses, with 554 and the end of the session, a client that talks on where the protocol makes it wait (RFC
 * 5321 4.3.1, RFC 2920 3.1). False: it did, and the caller returns. */
bool session_in_sync(struct smtp_session *s);

/* What MAIL and RCPT may carry now. */
unsigned session_offers(const struct smtp_session *s);

/* May AUTH be tried now? Only where it is of use: submission, where nothing goes without it. */
bool session_offers_auth(const struct smtp_session *s);

/* Is ATRN served here? On the ports of those who log in, where somebody fetches his mail. */
bool session_offers_atrn(const struct smtp_session *s);

/* Waits for the monitor's facts: at the start and again behind STARTTLS. 0 or a negative errno. */
int session_learn_facts(struct smtp_session *s);

/* message.c: the message that is coming in. */

/* Begins it in the transaction's file: the trace field. What goes wrong stays in its reader. */
void message_open(struct smtp_session *s, bool is_counted);

/* Feeds it; how many bytes belonged to it. What is wrong stays in its reader. */
size_t message_feed(struct smtp_session *s, struct str bytes);
bool message_is_spoiled(const struct smtp_session *s);

/* All of it is there, or, unless `is_last`, it is spoiled already: delivers or refuses it, with the replies. 0, or a
 * negative errno when the backend is gone. */
int message_finish(struct smtp_session *s, bool is_last);

/* Drops it. */
void message_close(struct smtp_session *s);

/* Commands; each writes its reply. The result is 0, or a negative errno when the backend is gone. */
int cmd_helo(void *session, struct str arguments);
int cmd_ehlo(void *session, struct str arguments);
int cmd_lhlo(void *session, struct str arguments);
int cmd_mail(void *session, struct str arguments);
int cmd_rcpt(void *session, struct str arguments);
int cmd_data(void *session, struct str arguments);
int cmd_bdat(void *session, struct str arguments);
int cmd_rset(void *session, struct str arguments);
int cmd_noop(void *session, struct str arguments);
int cmd_vrfy(void *session, struct str arguments);
int cmd_expn(void *session, struct str arguments);
int cmd_help(void *session, struct str arguments);
int cmd_quit(void *session, struct str arguments);
int cmd_starttls(void *session, struct str arguments);
int cmd_auth(void *session, struct str arguments);
int cmd_xclient(void *session, struct str arguments);
int cmd_xqueue(void *session, struct str arguments);
int cmd_send(void *session, struct str arguments);
int cmd_soml(void *session, struct str arguments);
int cmd_saml(void *session, struct str arguments);
int cmd_etrn(void *session, struct str arguments);
int cmd_atrn(void *session, struct str arguments);
int cmd_turn(void *session, struct str arguments);
int cmd_not_here(void *session, struct str arguments);

#endif
