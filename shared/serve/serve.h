/*
 * What pop2-session, pop3-session and imap-session are around their protocols: main(), for whom it runs, the connection
 * and the store to begin with, the lines in the log. It lies above gate and mbox, which do not know each other.
 */
#ifndef SERVE_SERVE_H
#define SERVE_SERVE_H

#include <stddef.h>
#include <stdint.h>

#include "shared/base/conf.h"
#include "shared/gate/session.h"
#include "shared/io/line.h"
#include "shared/io/transport.h"
#include "shared/io/writer.h"
#include "shared/mbox/mbox.h"

struct serve_program {
    const char *name;    /* "pop3-session", of the program and in the log */
    const char *refusal; /* what goes before the text when there can be no session: "-ERR [SYS/PERM] " */
    /* The session from its first to its last word, on fds 0 and 1. 0: the client ended it as the protocol wants it; a
     * negative errno otherwise. */
    int (*run)(struct conf *conf, struct session *who);
};

/* main() of such a program: arguments, log, for whom, run(). Answers and logs what goes wrong before run(). The exit
 * status: 0 or 1 as run() ended; sysexits for wrong usage or set-up. */
int serve_main(const struct serve_program *p, int argc, char **argv);

/* The connection as a session begins with it. The pointers are the caller's; he finishes `in` and `out`, whatever
 * this returns. */
struct serve_connection {
    int rfd, wfd;
    unsigned timeout; /* seconds that a client may be silent */
    size_t line_max;
    struct transport *transport;
    struct line_reader *in;
    struct writer *out;
};

/* Sets it up, with the input that the login stage has read already, and opens the store of `who`. 0, -ENOMEM, -ENOBUFS
 * (more input than a line may have), ... */
int serve_connect(const struct serve_connection *c, struct conf *conf, const struct session *who,
                  struct mbox_store **ret_store);

/* What POP2 and POP3 do when a maildrop is left: marks `seen` as \Seen and removes `remove` in one expunge, durable
 * when it returns 0. That a flag could not be kept is logged and is no reason to keep what was to be deleted. An error:
 * nothing was removed, or the disk fails so badly that nobody can say. */
int serve_update(struct mbox *box, const struct numset *remove, const struct numset *seen, uint64_t *ret_removed);

/* Sends what is buffered as the last that the client hears, and ends the connection on our side: he need not wait for
 * what is tidied up behind it. writer_flush()'s result. */
int serve_end(struct writer *out);

/* Logs what the store has to tell the administrator. NULL is fine. */
void serve_log_notices(struct mbox_store *store);

/* Logs the line that says what a session was: "event end=... NAME=... in=... out=... seconds=... tls=...". `counts` end
 * with a NULL name. */
struct serve_count {
    const char *name;
    uint64_t value;
};

/* The one line that tells how a session went. */
void serve_log_summary(const char *event, const char *end, const struct session *who, const struct serve_count *counts);

#endif
