/*
 * Postmen: `deliver` processes that bring one message after another to the same place, each as the user whose place it
 * is, for as long as the connection lasts whose messages they bring. A postman costs two processes to start (deliver,
 * and its keeper where there are locks to keep); the second message of a connection finds him there. He has nothing
 * locked while he waits, trusts nothing that was true of the mailbox before, and leaves by himself after
 * TIMEOUT_POSTMAN.
 */
#ifndef ROUTE_POSTMAN_H
#define ROUTE_POSTMAN_H

#include "shared/base/conf.h"
#include "shared/base/limits.h"
#include "shared/gate/chain.h"
#include "shared/route/rcpt.h"

struct postman {
    struct rcpt_target place; /* owned; RCPT_MAILBOX or RCPT_FILE */
    struct chain_child child; /* deliver, or the keeper that leaves with it; pid 0: nobody */
    int socket;               /* -1: he was sent away, and is only leaving */
    bool is_busy;
    int64_t since; /* he was taken or came back, clock_monotonic_ms() */
};

struct postmen {
    struct conf *conf; /* borrowed */
    bool is_root;      /* become the users, and keep their locks; otherwise we are the user already */
    struct postman men[LIMIT_POSTMEN];
};

struct postman_letter {
    int file;            /* the message; read from byte 0 with an offset of its own */
    struct str text;     /* or all of it here, and no file is needed */
    const char *sender;  /* "" null path */
    const char *address; /* the recipient as the client named it */
    bool is_again;       /* an attempt before this one may have succeeded: no second copy */
};

/* Nobody is there yet. `conf` is borrowed; is_root: they are given the uid of each recipient. */
void postmen_init(struct postmen *p, struct conf *conf, bool is_root);

/* Sends all of them home and waits until they are gone, but not long for one who hangs on his disk. */
void postmen_finish(struct postmen *p);

/* Gives a letter for that place to the postman who goes there, or to a new one. Up to LIMIT_POSTMEN letters may be
 * under way, each to a place of its own. 0 and *ret, who is to be asked for his verdict; -ESRCH: the user is gone, or
 * another one; another negative errno. */
int postman_send(struct postmen *p, const struct rcpt_target *place, const struct postman_letter *letter,
                 struct postman **ret);

/* Waits for what he says, a line like "250 2.1.5 Delivered", at most until `deadline` (clock_monotonic_ms()). A man who
 * delivered stays for the next letter, others are sent home. 0; -ENODATA: he died, and may have delivered; -ETIMEDOUT,
 * -EBADMSG: he is still at it, and may deliver yet. */
int postman_verdict(struct postman *m, int64_t deadline, struct buf *ret_line);

#endif
