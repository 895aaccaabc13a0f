/*
 * `pennypost check`, as its parts share it. A step is one line of the report: a conversation with one port.
 */
#ifndef ADMIN_CHECK_H
#define ADMIN_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "handlers/admin/account.h"
#include "handlers/admin/probe.h"
#include "shared/base/conf.h"

enum check_service {
    CHECK_SMTP = 1u << 0,
    CHECK_SUBMISSION = 1u << 1,
    CHECK_SUBMISSIONS = 1u << 2,
    CHECK_POP3 = 1u << 3,
    CHECK_POP3S = 1u << 4,
    CHECK_IMAP = 1u << 5,
    CHECK_IMAPS = 1u << 6,
    CHECK_ALL = (1u << 7) - 1,
};

struct check {
    struct conf *conf;
    const char *host;           /* as it was given */
    struct addrinfo *addresses; /* its addresses */
    unsigned services;          /* of enum check_service */
    struct account account;
    char token[64];     /* in a header field of every message that we send */
    unsigned sent;      /* messages accepted so far: what POP3 and IMAP must show */
    const char *no_tls; /* why TLS cannot be tried, or NULL */
    bool is_removed;    /* the messages have been removed again */
    struct buf reason;  /* why the current step failed */
    struct buf detail;  /* what the current step saw, when it went well */
    const char *hint;   /* what to do about it */
    unsigned passed;
    unsigned failed;
    unsigned skipped;
};

struct check_step {
    enum check_service service;
    uint16_t port;
    enum probe_tls tls;
    const char *name;                                        /* "SMTP with STARTTLS: a message for the user" */
    int (*run)(struct check *c, const struct check_step *s); /* 0, or negative with reason (and hint) filled */
};

#define CHECK_FIELD "X-Pennypost-Check"
#define CHECK_BODY  "This message was sent by pennypost check. It is removed when the check ends."

/* Conversations (check_smtp.c, check_pop3.c, check_imap.c). */
int check_smtp_send(struct check *c, const struct check_step *s);
int check_pop3_see(struct check *c, const struct check_step *s);
int check_pop3_remove(struct check *c, const struct check_step *s);
int check_imap_see(struct check *c, const struct check_step *s);
int check_imap_remove(struct check *c, const struct check_step *s);
int check_imap_gone(struct check *c, const struct check_step *s);

/* Opens the connection of a step and reads the greeting, which must start with `greeting`. */
int check_open(struct check *c, const struct check_step *s, const char *protocol, const char *greeting,
               struct probe *p);

/* Fills c->reason and c->hint; returns `error`, so that a step can return it. */
int check_fail(struct check *c, int error, const char *hint, const char *format, ...) _printf_(4, 5);

/* A read or write on the connection failed while `doing` something. */
int check_broken(struct check *c, struct probe *p, int error, const char *doing);

/* The answer p->last was not what `doing` needs. Where it says nothing of its own the hint is left to the step; a step
 * without one gets the hint where the log is. */
int check_refused(struct check *c, struct probe *p, const char *doing);

#endif
