/*
 * What the two files of the keeper share: keeper.c (how it comes to be, and how it ends), keeper_requests.c (what the
 * session asks for). Not for others, but for tests.
 */
#ifndef GATE_KEEPER_PARTS_H
#define GATE_KEEPER_PARTS_H

#include "shared/base/limits.h"
#include "shared/gate/dotlock.h"
#include "shared/gate/keeper.h"
#include "shared/gate/priv.h"

struct keeper {
    const struct conf *conf;
    struct priv_user user;
    struct chain_child session, tls, auth;
    int folder;           /* of the spool file */
    char name[256];       /* of the spool file in it */
    gid_t group;          /* with which files are made */
    bool is_shared_group; /* it is the spool's group (mail), not the user's own */
    struct dotlock lock;
    int markers;                  /* folder of the markers or -1 */
    char marker[LIMIT_USER + 16]; /* "" while there is none */
    int64_t touched;              /* when the lock was last refreshed */
    bool only_appends;            /* deliver: a torn message tells its own length and needs no marker */
    int stop;                     /* signalfd of SIGTERM, or -1 */
    bool is_stopped;
};

/* Files are touched as the user, with the group of the spool; markers as ourselves. Only root can change. */
void keeper_be_user(const struct keeper *k);
void keeper_be_self(void);

/* Opens the folder of the spool file, says what files are made with, prepares the lock. 0 or a negative errno. */
int keeper_open_folder(struct keeper *k);

/* Reads one frame of the session and answers it. 0; -ENODATA and -EPIPE: the session is gone; -ETIMEDOUT: there was
 * none; others: it broke the rules. */
int keeper_serve_frame(struct keeper *k);

/* The end of a session that has left its mailbox in order. */
void keeper_clear_marker(struct keeper *k);

#endif
