/*
 * pop2-session: POP2 after login (RFC 937, states MBOX, ITEM and NEXT). Runs as the user.
 *
 * A command returns 0 after it has answered, or a negative errno that ends the session: "if anything goes wrong close
 * the connection". Nothing is said then but what pop2_fail() has said already.
 */
#ifndef POP2_SESSION_H
#define POP2_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/conf.h"
#include "shared/gate/session.h"
#include "shared/io/dispatch.h"
#include "shared/io/line.h"
#include "shared/mbox/mbox.h"

/* The server's states of RFC 937. */
enum pop2_state {
    POP2_AUTH, /* never ours */
    POP2_MBOX,
    POP2_ITEM,
    POP2_NEXT,
};

enum pop2_mark {
    POP2_DELETED = 1u << 0, /* ACKD */
    POP2_SAVED = 1u << 1,   /* ACKS */
};

struct pop2 {
    struct session *who;
    struct transport transport;
    struct line_reader in;
    struct writer out;
    struct mbox_store *store;
    enum pop2_state state;
    struct mbox *box; /* NULL: the folder does not exist, it is empty then */
    uint8_t *marks;   /* of message n at n - 1 */
    uint32_t current; /* the current message indicator */
    uint64_t size;    /* what was last announced of it, 0: it cannot be had */
    bool is_leaving;  /* QUIT */
    const char *end;  /* for the log: quit, eof, timeout, error, ... */
    struct {
        uint64_t commands, retr, retr_bytes, folders, removed;
    } count;
};

/* Opens the store for `who` on the connection. The structs given must outlive it. 0 or a negative errno; in any case
 * pop2_finish() is due. */
int pop2_init(struct pop2 *s, struct conf *conf, struct session *who, int rfd, int wfd);
void pop2_finish(struct pop2 *s);

/* Opens INBOX, answers HELO, serves commands to the end. 0: ended by QUIT; else a negative errno. */
int pop2_run(struct pop2 *s);

/* Says "- text", and that this is why the session ends. Returns -EPROTO. */
int pop2_fail(struct pop2 *s, const char *end, const char *format, ...) _printf_(3, 4);

/* The same for an error of the store. */
int pop2_store_fail(struct pop2 *s, int error);

/* Opens a folder as the current one, none must be; one that does not exist is empty. Answers "#n". */
int pop2_open(struct pop2 *s, struct str name);

/* Run functions of the table. */
int pop2_fold(void *session, struct str arguments);
int pop2_read(void *session, struct str arguments);
int pop2_retr(void *session, struct str arguments);
int pop2_acks(void *session, struct str arguments);
int pop2_ackd(void *session, struct str arguments);
int pop2_nack(void *session, struct str arguments);
int pop2_quit(void *session, struct str arguments);

#endif
