/*
 * Starting the other programs of a connection: fork, exactly the fds they need, exec. Nothing else is inherited: all
 * other fds are closed, signals are at their defaults, the environment is built anew.
 */
#ifndef GATE_CHAIN_H
#define GATE_CHAIN_H

#include <stdbool.h>
#include <sys/types.h>

#include "shared/base/conf.h"
#include "shared/gate/priv.h"

#define CHAIN_FDS 6 /* fd 0 to 5 of a child can be given */

struct chain_child {
    pid_t pid;   /* 0: none */
    int control; /* our end of its control socket (its fd 3), or -1 */
    bool is_reaper;
};

#define CHAIN_CHILD_NONE ((struct chain_child){.control = -1})

struct chain_spec {
    const char *program;          /* "imap-login"; found by chain_locate() */
    const char *arguments[8];     /* behind argv[0], NULL ends */
    const struct conf *conf;      /* its -o, -c and --epoch are handed on; NULL: the program takes none */
    int fds[CHAIN_FDS];           /* what becomes fd 0, 1, 2, ...: CHAIN_NULL, CHAIN_KEEP, CHAIN_NONE or an fd */
    bool has_control;             /* make a control pair: fd 3 of the child, ret->control here */
    const struct priv_user *user; /* become that user before exec; NULL: stay */
    bool is_for_user;             /* it becomes a user itself when it is told which: gets nothing of root's meanwhile */
    const char *account;          /* its ids are put into PRIV_ACCOUNT_ENV, when we are root; NULL: none */
    bool no_new_privs;
    bool dies_with_us;     /* SIGTERM when this process dies (which needs CAP_KILL for another user) */
    bool is_reaper;        /* orphans below it become its own, so that chain_end() can end them with it */
    int working_directory; /* fd, or -1: "/" for another user, unchanged else */
};

enum {
    CHAIN_NULL = -1, /* /dev/null */
    CHAIN_NONE = -2, /* closed */
    CHAIN_KEEP = -3, /* what it is here */
};

/* Designated-initialiser start of a spec: fd 0, 1 /dev/null, fd 2 kept, the rest closed. */
#define CHAIN_SPEC(prog)                                                                                               \
    .program = (prog), .fds = {CHAIN_NULL, CHAIN_NULL, CHAIN_KEEP, CHAIN_NONE, CHAIN_NONE, CHAIN_NONE},                \
    .working_directory = -1

/* Starts it. USER, LOGNAME, HOME and PENNYPOST_CONTROL are set where they apply; TZ, LANG, LC_ALL, PENNYPOST_LOG and
 * the sanitizers' options are passed through, CREDENTIALS_DIRECTORY to programs that stay root. 0 or a negative errno.
 * A program that cannot be exec'ed shows as a child that leaves with status 127. */
int chain_spawn(const struct chain_spec *spec, struct chain_child *ret);

/* The file of a program: beside our own (/proc/self/exe) when installed, in build/handlers/<name>/ when run from the
 * build tree, else in PENNYPOST_LIBEXECDIR. -ENOENT, -ENAMETOOLONG. */
int chain_locate(const char *program, char *out, size_t size);

/* Closes that fd and all above. 0 or a negative errno. */
int chain_close_from(int fd);

/* Waits at most `timeout_ms` for a child that leaves by itself. 0: it has gone, and *child becomes CHAIN_CHILD_NONE;
 * -ETIMEDOUT: it is still at work. */
int chain_wait(struct chain_child *child, int timeout_ms);

/* Has it left by itself, and not by a signal, within `timeout_ms`? It stays to be reaped. */
bool chain_is_over(const struct chain_child *child, int timeout_ms);

/* Closes the control socket, waits at most `timeout_ms` for the child to leave, then kills it, and with a reaper
 * all that it has started. The wait status, or a negative errno. *child becomes CHAIN_CHILD_NONE. */
int chain_end(struct chain_child *child, int timeout_ms);

/* Was it killed, or did it never get to its work: one of sysexits.h, or 127 of chain_spawn()? */
bool chain_has_failed(int status);

/* Tells a wait status for the log: "exit 1", "signal 31". */
void chain_status_text(int status, char out[static 24]);

#endif
