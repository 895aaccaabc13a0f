/*
 * K, the keeper: what the monitor becomes after login (it re-execs itself, so that nothing of the login stays in
 * memory). It answers LOCK, UNLOCK and CREATE for the one spool file of one user and waits for the connection's other
 * processes; if the session dies holding the lock, it runs `deliver --recover` as the user before it releases it.
 * Files are made with the user's fsuid and the spool folder's group: no right that user and group do not have.
 */
#ifndef GATE_KEEPER_H
#define GATE_KEEPER_H

#include "shared/base/conf.h"
#include "shared/gate/chain.h"

/* Markers: an empty file USER.PID here from the first LOCK of a session to its end says that USER's box may have to be
 * recovered after a power cut. root:root 0700. Read by pennypost-recover.service. */
#define KEEPER_LOCKS_DIR "/var/lib/pennypost/locks"

/* The processes that are left of a connection. */
struct keeper_family {
    struct chain_child session, tls, auth; /* pid 0: there is none */
};

/* Replaces the monitor (`program`: its own name, "imap") by the keeper of that user: fd 3 the session's control socket,
 * 4 T's, 5 A's, 6 one that holds a FRAME_KEEPER_USER. Returns only on failure, a negative errno. */
int keeper_exec(const char *program, const struct conf *conf, const struct priv_user *user,
                const struct keeper_family *family);

/* SIGTERM waits from the hand-over on until the keeper can take it. */
void keeper_hold_stop(void);

/* Writes to the log that a part of the family failed. -ECHILD. */
int keeper_part_failed(const char *part, int status, const char *user);

/* main() of that: `imap --keeper USER SESSION_PID TLS_PID AUTH_PID`, configuration and log ready. The exit status. */
int keeper_main(const struct conf *conf, int argc, char **argv);

/* The same without exec, for smtp: the calling process must be a fork made for this one session (deliver), since it
 * gives up its rights. It has no login behind it that could stay in memory. Takes the user over. The exit status. */
int keeper_run(const struct conf *conf, const struct priv_user *user, const struct chain_child *session);

#endif
