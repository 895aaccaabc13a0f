/*
 * What relay (root, the queue manager) and relay-session (confined, the SMTP client) say to each other. s = string, u =
 * u32, U = u64, [fd] = with one fd. relay-session has one connection, fd 0, and the control socket, fd 3.
 *
 * relay-session asks for whatever comes in several pieces, so never more than one frame waits for it, and a
 * relay-session that does not read cannot make relay wait. Every field is checked where it is read, on both sides.
 */
#ifndef RELAY_TALK_H
#define RELAY_TALK_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/limits.h"
#include "shared/io/frame.h"
#include "shared/io/frame_types.h"

#define TALK_TEXT     512 /* bytes of a reply's text that are kept, all lines joined */
#define TALK_NAMES    4   /* names that a certificate may have */
#define TALK_TLSA     16  /* records looked at of one host */
#define TALK_TLSA_MAX 512 /* bytes of one record's data: a digest, or a key */

enum talk_frame {
    /* relay -> session, first; with [fd] of the trusted authorities where names are to be verified:
     * s host name, s HELO name, u enum talk_tls, u implicit TLS (0/1), u percent of the time-outs of RFC 5321, s names
     * for the certificate (blank-separated), s user, s secret, u enum talk_login, u TLSA records, each u usage, u
     * selector, u matching type, s data */
    FRAME_RELAY_HOST = FRAME_RELAY_FIRST,
    /* session -> relay: struct talk_ready: u enum talk_status, reply, s TLS version, s cipher, u verified (0/1),
     * u extensions, U largest message */
    FRAME_RELAY_READY,
    /* relay -> session with [fd], the message: s sender, u enum talk_body, u SMTPUTF8 (0/1), u REQUIRETLS (0/1), u a
     * report of ours (0/1), s ENVID (xtext), u enum talk_ret, u enum talk_by, u trace (0/1), U seconds from now, two's
     * complement, u recipients */
    FRAME_RELAY_MAIL,
    /* session -> relay: more recipients, please (no fields) */
    FRAME_RELAY_MORE,
    /* relay -> session: u how many (1 and up), each s address, u NOTIFY bits, s ORCPT ("type;xtext") */
    FRAME_RELAY_RCPT,
    /* session -> relay, one for each recipient in order: reply */
    FRAME_RELAY_RESULT,
    /* session -> relay, behind the last result: u the connection can take another message (0/1), u the message was
     * converted (0/1) */
    FRAME_RELAY_DONE,
    /* relay -> session: say QUIT and leave (no fields) */
    FRAME_RELAY_QUIT,
    /* relay -> session with [fd], a server of ours: say ATRN (RFC 2645), answer FRAME_RELAY_RESULT, and if it was
     * positive carry bytes between the two until one of them ends (no fields) */
    FRAME_RELAY_TURN,
};

/* What TLS the next hop must have. */
enum talk_tls {
    TALK_TLS_NONE,    /* do not use it */
    TALK_TLS_MAY,     /* where it is offered, with any certificate */
    TALK_TLS_ENCRYPT, /* with any certificate, or not at all */
    TALK_TLS_VERIFY,  /* with a certificate for one of the names, or not at all */
    TALK_TLS_DANE,    /* as the TLSA records say, or not at all */
};

/* How to log in there. */
enum talk_login {
    TALK_LOGIN_NONE,
    TALK_LOGIN_PASSWORD, /* SCRAM (-PLUS first), PLAIN, LOGIN, CRAM-MD5: the first that is offered */
    TALK_LOGIN_TOKEN,    /* XOAUTH2, OAUTHBEARER (RFC 7628) */
};

enum talk_status {
    TALK_READY,   /* messages can be sent */
    TALK_REFUSED, /* the server said no, in the reply */
    TALK_LOST,    /* the connection ended, timed out, or speaks no SMTP */
    TALK_NO_TLS,  /* TLS is demanded and is not to be had, or its certificate is wrong */
    TALK_TLS_BAD, /* opportunistic TLS failed: without it there may be a way */
    TALK_NO_LOGIN /* the login did not succeed */
};

enum talk_phase {
    TALK_GREETING,
    TALK_HELLO,
    TALK_STARTTLS,
    TALK_AUTH,
    TALK_MAIL,
    TALK_RCPT,
    TALK_DATA, /* the command, and the message on its way */
    TALK_END,  /* behind the last byte of the message: it may have arrived whatever the reply says */
    TALK_PHASES
};

enum talk_extension {
    TALK_PIPELINING = 1u << 0,
    TALK_SIZE = 1u << 1,
    TALK_8BITMIME = 1u << 2,
    TALK_BINARYMIME = 1u << 3,
    TALK_CHUNKING = 1u << 4,
    TALK_SMTPUTF8 = 1u << 5,
    TALK_DSN = 1u << 6,
    TALK_STARTTLS_OFFERED = 1u << 7,
    TALK_AUTH_OFFERED = 1u << 8,
    TALK_REQUIRETLS = 1u << 9,
    TALK_ENHANCED = 1u << 10,
    TALK_EXTENDED = 1u << 11, /* EHLO was understood */
    TALK_DELIVERBY = 1u << 12,
};

enum talk_body { TALK_BODY_UNKNOWN, TALK_BODY_7BIT, TALK_BODY_8BIT, TALK_BODY_BINARY };
enum talk_ret { TALK_RET_UNSET, TALK_RET_FULL, TALK_RET_HDRS };
enum talk_by { TALK_BY_NONE, TALK_BY_RETURN, TALK_BY_NOTIFY }; /* RFC 2852 4 */

#define TALK_BY_MAX INT64_C(999999999) /* seconds, to the past and to the future */

/* u code, s enhanced, s text, u phase, u ours (0/1) */
struct talk_reply {
    unsigned code;     /* 200 to 599 */
    char enhanced[12]; /* "5.1.1"; made from the code where the server sent none */
    char text[TALK_TEXT];
    enum talk_phase phase;
    bool is_ours; /* not the server's words: the connection broke, or an extension is missing */
};

struct talk_tlsa {
    uint8_t usage, selector, matching;
    struct str data;
};

/* Views look into the frame, or into what the sender owns. */
struct talk_host {
    struct str name; /* for SNI and texts */
    struct str helo;
    enum talk_tls tls;
    bool is_implicit;
    uint32_t percent;
    struct str names;
    struct str user, secret;
    enum talk_login login;
    struct talk_tlsa tlsa[TALK_TLSA];
    uint32_t tlsa_count;
};

struct talk_ready {
    enum talk_status status;
    struct talk_reply reply;
    char tls[64]; /* "TLSv1.3 TLS_AES_256_GCM_SHA384", "" in the clear */
    bool is_verified;
    uint32_t extensions;
    uint64_t size; /* 0: no limit announced */
};

struct talk_mail {
    struct str sender; /* "" null path */
    enum talk_body body;
    bool is_utf8;
    bool is_requiretls;
    bool is_report; /* of this machine's, so that its form is ours to choose */
    struct str envid;
    enum talk_ret ret;
    enum talk_by by;
    bool by_trace;
    int64_t by_seconds; /* from now, negative: ago */
    uint32_t count;     /* recipients, 1 to LIMIT_RECIPIENTS */
};

struct talk_rcpt {
    struct str address;
    uint32_t notify;
    struct str orcpt;
};

/* Our own words in the place of a reply; made printable. */
void talk_reply_set(struct talk_reply *r, enum talk_phase phase, unsigned code, const char *enhanced,
                    const char *format, ...) _printf_(5, 6);

/* Writing a frame: 0, -ENOBUFS, -ENOMEM. Those of a host and of a message begin it, the others add to one that was
 * begun. */
int talk_put_reply(struct frame *f, const struct talk_reply *r);
int talk_put_host(struct frame *f, const struct talk_host *h);
int talk_put_ready(struct frame *f, const struct talk_ready *r);
int talk_put_mail(struct frame *f, const struct talk_mail *m);
int talk_put_rcpt(struct frame *f, const struct talk_rcpt *r);

/* Reading what one of these wrote: 0, -EBADMSG. What goes to the network as a word of a command is checked to be one:
 * printable, no blanks, and UTF-8 only where the message is SMTPUTF8. */
int talk_get_reply(struct frame_reader *in, struct talk_reply *ret);
int talk_get_host(struct frame_reader *in, struct talk_host *ret);
int talk_get_ready(struct frame_reader *in, struct talk_ready *ret);
int talk_get_mail(struct frame_reader *in, struct talk_mail *ret);
int talk_get_rcpt(struct frame_reader *in, bool is_utf8, struct talk_rcpt *ret);

#endif
