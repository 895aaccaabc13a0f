/*
 * K, the keeper: what the monitor becomes after login (it re-execs itself, so that nothing of the login stays in
 * memory). It answers LOCK, UNLOCK and CREATE for the one spool file of one user and waits for the connection's other
 * processes; if the session dies holding the lock, it runs `deliver --recover` as the user before it releases it.
 * File access happens with the user's fsuid and the spool folder's group: no right that user and group do not have.
 */
#ifndef GATE_KEEPER_H
#define GATE_KEEPER_H

#include "shared/gate/monitor.h"

#define KEEPER_LOCKS_DIR "/var/lib/pennypost/locks" /* a file named after the user while he may hold a lock */

/* Replaces the monitor by the keeper of its user: fd 3 the session's control socket, 4 T's, 5 A's. Returns only on
 * failure, a negative errno. */
int keeper_exec(struct monitor *m, struct chain_child *session);

/* main() of that: `imap --keeper USER SESSION_PID TLS_PID AUTH_PID`, configuration and log ready. The exit status. */
int keeper_main(const struct conf *conf, int argc, char **argv);

#endif
