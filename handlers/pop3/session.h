/*
 * pop3-session: one maildrop after login (RFC 1939 5 and 6, TRANSACTION and UPDATE). Runs as the user.
 *
 * Outcomes: a command returns enum pop3_outcome after it has answered, or a negative errno that ends the session
 * without another word, so that no byte of a reply is followed by a wrong one.
 */
#ifndef POP3_SESSION_H
#define POP3_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "handlers/pop3/policy.h"
#include "shared/base/conf.h"
#include "shared/gate/session.h"
#include "shared/io/dispatch.h"
#include "shared/io/line.h"
#include "shared/mbox/mbox.h"

enum pop3_state {
    POP3_AUTHORIZATION, /* never ours: commands that belong to it are in the table to be refused in words */
    POP3_TRANSACTION,
};

enum pop3_outcome {
    POP3_OK,
    POP3_ERR, /* answered with -ERR; in a row they count against LIMIT_BAD_COMMANDS if POP3_BAD */
    POP3_BAD, /* not even a command */
};

enum pop3_mark {
    POP3_DELETED = 1u << 0,
    POP3_RETRIEVED = 1u << 1,
};

struct pop3 {
    struct conf *conf;
    struct session *who;
    struct transport transport;
    struct line_reader in;
    struct writer out;
    struct pop3_policy policy;
    struct mbox_store *store;
    struct mbox *box;
    struct mbox_status status; /* at the beginning: the snapshot */
    uint8_t *marks;            /* of message n at n - 1 */
    uint64_t *sizes;           /* of those that pop3_size() had to look into, else 0; NULL: none was asked for */
    uint32_t deleted;          /* messages marked */
    uint64_t deleted_size;
    uint32_t last;       /* RFC 1081 LAST */
    uint32_t first_last; /* its value at the beginning, which RSET restores */
    unsigned bad;        /* commands in a row that were none */
    bool is_utf8;        /* RFC 6856 2.1 UTF8 was given */
    bool is_leaving;     /* QUIT */
    const char *end;     /* for the log: quit, eof, timeout, error, ... */
    struct {
        uint64_t commands, retr, retr_bytes, top, removed, expired;
    } count;
};

/* Opens the store for `who` on the connection. The structs given must outlive it. 0 or a negative errno; in any case
 * pop3_finish() is due. */
int pop3_init(struct pop3 *s, struct conf *conf, struct session *who, int rfd, int wfd);
void pop3_finish(struct pop3 *s);

/* Closes the maildrop, if it is open: others may have it now. */
void pop3_release(struct pop3 *s);

/* Opens the maildrop, answers the login, serves commands to the end. 0: ended by QUIT with +OK; else a negative errno.
 */
int pop3_run(struct pop3 *s);

/* ---- answers ---- */

/* "+OK text". Returns POP3_OK. */
int pop3_ok(struct pop3 *s, const char *format, ...) _printf_(2, 3);

/* The same with a number in the text, for what is said of each of many messages: printf(3) takes far longer. */
int pop3_ok_number(struct pop3 *s, const char *before, uint64_t n, const char *behind);

/* "-ERR text", with a response code (RFC 2449 8, RFC 3206) in it or NULL. Returns POP3_ERR. */
int pop3_err(struct pop3 *s, const char *code, const char *format, ...) _printf_(3, 4);

/* The -ERR for an error of the store, in words a user can do something with. */
int pop3_store_err(struct pop3 *s, int error);

/* ---- messages ---- */

/* Reads a message number off *arguments, up to the next blank. The message is there and not marked as deleted: 0 and
 * its facts; otherwise POP3_ERR, answered. */
int pop3_take_message(struct pop3 *s, struct str *arguments, uint32_t *ret_seq, struct mbox_info *ret);

/* The octets that RETR sends of it (RFC 6856 2.1: that is what LIST has to tell, though a surrogate is sent). A
 * negative errno: the message has to be looked into for that and cannot be now (-EAGAIN: locked), as RETR could not. */
int pop3_size(struct pop3 *s, uint32_t seq, const struct mbox_info *info, uint64_t *ret);

/* No arguments are left: 0; otherwise POP3_ERR, answered with the form that is right. */
int pop3_no_more(struct pop3 *s, struct str arguments, const char *form);

/* ---- commands in files of their own: run functions of the table ---- */

int pop3_retr(void *session, struct str arguments);
int pop3_top(void *session, struct str arguments);
int pop3_quit(void *session, struct str arguments);
int pop3_capa(void *session, struct str arguments);
int pop3_uidl(void *session, struct str arguments);
int pop3_stat(void *session, struct str arguments);
int pop3_list(void *session, struct str arguments);
int pop3_dele(void *session, struct str arguments);
int pop3_rset(void *session, struct str arguments);
int pop3_last(void *session, struct str arguments);
int pop3_noop(void *session, struct str arguments);
int pop3_language(void *session, struct str arguments);
int pop3_utf8(void *session, struct str arguments);

#endif
