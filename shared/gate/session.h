/*
 * How a session program (imap-session, pop3-session, smtp-session, deliver) learns for whom and from where it runs.
 * Started by a monitor it has a control socket on fd GATE_CONTROL_FD and receives FRAME_SESSION_START there; started by
 * a person or a script on a pipe, terminal or socket it serves the invoking user, already authenticated.
 */
#ifndef GATE_SESSION_H
#define GATE_SESSION_H

#include <stdbool.h>
#include <sys/types.h>

#include "shared/base/buf.h"
#include "shared/base/conf.h"
#include "shared/base/limits.h"
#include "shared/base/str.h"

#define GATE_CONTROL_FD  3
#define GATE_CONTROL_ENV "PENNYPOST_CONTROL" /* set to "3" by the monitor: without it fd 3 is never looked at */

struct session {
    char *user;
    char *home;
    uid_t uid;
    char *peer; /* "192.0.2.1", "::1", "stdin", "local": printable, for logs and policy */
    char *local;
    bool is_tls;
    char *tls;           /* "TLSv1.3 TLS_AES_256_GCM_SHA384", "" in the clear */
    bool is_preauth;     /* no monitor: pipe, terminal, ssh; bare LF is accepted, IMAP greets with PREAUTH */
    int control;         /* keeper's socket or -1 */
    struct buf unread;   /* input that the login stage had buffered: line_unread() it */
    struct buf protocol; /* what the login stage left for us (IMAP: the tag to answer) */
    struct buf messages; /* PAM's messages to the user, a line each */
    char *inbox;   /* path of the spool file: conf spool is a folder holding a file named after the user, or the file */
    char *folders; /* conf folders expanded */
    char *state;   /* conf state expanded; when -o spool= or -o folders= is given without -o state=, a folder below it
                      that belongs to these paths alone */
};

/* Nobody's yet. */
#define SESSION_INIT                                                                                                   \
    ((struct session){.control = -1,                                                                                   \
                      .unread = BUF_INIT(LIMIT_FRAME),                                                                 \
                      .protocol = BUF_INIT(LIMIT_FRAME),                                                               \
                      .messages = BUF_INIT(LIMIT_FRAME)})
#define _cleanup_session_ _cleanup_(session_finish)

/* Fills *ret, which must be zeroed or fresh. Started by a monitor it waits for FRAME_SESSION_USER first and becomes
 * that user, on his connection. Refuses to run as root where a user's mail is touched (-EPERM).
 * 0, -ECANCELED (nobody has logged in), -EBADMSG (a monitor that speaks nonsense), -ENOENT (the invoking user has no
 * account), other errno. */
int session_start(const struct conf *conf, struct session *ret);
void session_finish(struct session *s);

/* The part of it that believes the monitor, on another fd, for tests: the first frame. What it filled before an error
 * is left to session_finish(). */
int session_receive(int control, struct session *s);

/* Fills inbox, folders and state from user and home (which must be set), for programs that learn the user in another
 * way (deliver). 0, -EINVAL (a user name that cannot be a file name, a bad % in the configuration), -ENOBUFS, -ENOMEM.
 */
int session_paths(const struct conf *conf, struct session *s);

/* The spool file of a user: spool/user if `spool` is a folder or ends with a slash, else `spool` itself. The caller
 * frees it. -EINVAL: the name cannot be a file name. */
int session_spool_path(const char *spool, struct str user, char **ret);

/* The same from the configuration. One that is not there counts as a folder, unless it names a place for each user (%)
 * or was given on the command line. The errors of conf_expand(), too. */
int session_inbox(const struct conf *conf, struct str user, struct str home, char **ret);

#endif
