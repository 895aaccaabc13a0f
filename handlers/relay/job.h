/*
 * What relay (the queue manager) and relay-courier say to each other about a next hop, besides the frames of talk.h,
 * which the courier hands on between relay and relay-session. s = string, u = u32, [fd] = with one fd.
 *
 *   relay -> courier   JOB
 *   courier -> relay   UP, or DOWN
 *   ...                MAIL, MORE, RCPT or LOCAL, RESULT, DONE as in talk.h, any number of messages
 *   courier -> relay   LOST when the connection's process ended in the middle
 *   relay -> courier   AGAIN: another connection, please (answer UP or DOWN, LOST if there is nowhere left to go); or
 *                      QUIT, the end, also behind DOWN and LOST
 *   courier -> relay   IDLE: another JOB may come
 */
#ifndef RELAY_JOB_H
#define RELAY_JOB_H

#include "handlers/relay/talk.h"

enum job_frame {
    /* for JOB_TURN with [fd], the connection: u enum job_kind, s domain or host, u port, u implicit TLS (0/1), u enum
     * job_tls, s names for the certificate, u REQUIRETLS (0/1), u percent of time-outs, s user, s secret, u enum
     * talk_login */
    FRAME_RELAY_JOB = FRAME_RELAY_TURN + 1,
    /* s host, s address, u the port, then what FRAME_RELAY_READY has */
    FRAME_RELAY_UP,
    /* s host, s address, reply: nobody can be reached, and why */
    FRAME_RELAY_DOWN,
    /* reply */
    FRAME_RELAY_LOST,
    /* u enum job_again */
    FRAME_RELAY_AGAIN,
    /* u how many (1 and up), each u enum job_place, s user, s argument, s address, s sender */
    FRAME_RELAY_LOCAL,
    /* (no fields) */
    FRAME_RELAY_IDLE,
};

enum job_kind {
    JOB_MX,    /* a domain, or an address literal with its brackets */
    JOB_HOST,  /* a host or numeric address that the admin named */
    JOB_LOCAL, /* mailboxes, files and commands of this machine */
    JOB_TURN,  /* who fetches his mail: the connection comes with the job (ATRN, RFC 2645) */
    JOB_PULL,  /* as JOB_HOST, to fetch ours there */
};

enum job_tls {
    JOB_TLS_AUTO, /* DANE, MTA-STS, else opportunistic */
    JOB_TLS_NONE,
    JOB_TLS_MAY,
    JOB_TLS_ENCRYPT,
    JOB_TLS_VERIFY,
    JOB_TLS_DANE, /* and nothing less */
};

/* Another connection; a later one says more than one before it. */
enum job_again {
    JOB_AGAIN_SAME,      /* from the first host on */
    JOB_AGAIN_ELSEWHERE, /* to an address that has not been tried */
    JOB_AGAIN_V4,        /* from the first host on, by IPv4 only */
};

enum job_place { JOB_MAILBOX, JOB_COMMAND, JOB_FILE };

/* Views look into the frame, or into what the sender owns. */
struct job {
    enum job_kind kind;
    struct str hop;
    uint32_t port;
    bool is_implicit;
    enum job_tls tls;
    struct str names;
    bool is_requiretls;
    uint32_t percent;
    struct str user, secret;
    enum talk_login login;
};

struct job_up {
    struct str host, address;
    uint32_t port;
    struct talk_ready ready;
};

struct job_down {
    struct str host, address;
    struct talk_reply reply;
};

struct job_local {
    enum job_place place;
    struct str user, argument, address, sender;
};

/* As those of talk.h. */
int job_put(struct frame *f, const struct job *j);
int job_get(struct frame_reader *in, struct job *ret);
int job_put_up(struct frame *f, const struct job_up *up);
int job_get_up(struct frame_reader *in, struct job_up *ret);
int job_put_down(struct frame *f, const struct job_down *down);
int job_get_down(struct frame_reader *in, struct job_down *ret);
int job_put_local(struct frame *f, const struct job_local *l);
int job_get_local(struct frame_reader *in, struct job_local *ret);

#endif
