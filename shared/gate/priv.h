/*
 * Giving privileges up, for good. Every function that drops something verifies it afterwards; a caller that gets an
 * error back must end the process. In a process that does not run as root only what needs no root is done.
 */
#ifndef GATE_PRIV_H
#define GATE_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "shared/base/str.h"

#define PRIV_EMPTY_DIR  "/var/lib/pennypost/empty" /* root of processes without a file system; root:root 0555 */
#define PRIV_USER_LOGIN "pennypost-login"
#define PRIV_USER_TLS   "pennypost-tls"
#define PRIV_USER_SMTP  "pennypost-smtp"
#define PRIV_USER_RESOLVE "pennypost-resolve"
#define PRIV_USER_RELAY "pennypost-relay"
#define PRIV_USER_STS "pennypost-sts"
#define PRIV_GROUPS_MAX 256

struct priv_user {
    char *name;
    char *home;
    uid_t uid;
    gid_t gid;
    gid_t groups[PRIV_GROUPS_MAX];
    int group_count;
};

#define _cleanup_priv_user_ _cleanup_(priv_user_finish)

/* Looks an account up with all its groups. -ENOENT: no such account. -EINVAL: a name that cannot be one. -E2BIG: more
 * groups than PRIV_GROUPS_MAX. uid 0 is returned like any other: policy is the caller's. */
int priv_user_find(struct str name, struct priv_user *ret);
void priv_user_finish(struct priv_user *u);

/* The same from a frame of a process that has looked it up: copies and checks what can be checked without asking
 * anybody. `groups`: a gid_t each. -EBADMSG: no account looks like that; -ENOMEM. */
int priv_user_make(struct priv_user *ret, struct str name, struct str home, uint32_t uid, uint32_t gid,
                   struct str groups);

/* Its groups as priv_user_make() takes them, a view. */
struct str priv_user_groups(const struct priv_user *u);

/* The process becomes that user for ever: setgroups, setresgid, setresuid, all verified, chdir to nowhere. Refuses
 * uid 0 and gid 0 (-EPERM). When not root: -EPERM unless it already is that user. */
int priv_become(const struct priv_user *u);

#define PRIV_ACCOUNT_ENV "PENNYPOST_ACCOUNT"

/* The ids of an account. _named asks the name service. _listed reads /etc/passwd, as programs can that are linked
 * statically and so have no name service. _given believes PRIV_ACCOUNT_ENV, "account:uid:gid", which chain_spawn() puts
 * into the environment of those that cannot read that either. 0, -ENOENT, ... */
int priv_account_named(const char *account, uid_t *ret_uid, gid_t *ret_gid);
int priv_account_listed(const char *account, uid_t *ret_uid, gid_t *ret_gid);
int priv_account_given(const char *account, uid_t *ret_uid, gid_t *ret_gid);

/* What a process that parses what strangers send is left with. */
struct priv_confinement {
    const char *account; /* PRIV_USER_... */
    int (*find)(const char *account, uid_t *ret_uid, gid_t *ret_gid);
    rlim_t open_files;   /* highest fd + 1 it may ever have */
    rlim_t file_size;    /* bytes up to which it may grow a file that it was given; 0: sockets and pipes only */
    rlim_t memory;       /* bytes of private memory (not in builds with sanitizers) */
};

/* For login stage, tls, smtp-session, resolve: first thing in main(), after opening what they need. As root: chroot to
 * PRIV_EMPTY_DIR (made if it is missing) and become the account; always: no capabilities, no_new_privs, not dumpable,
 * no new processes, the limits, death with the parent. `ret_what` names the step that failed. The seccomp filter is
 * sandbox_enter(), afterwards. */
int priv_confine(const struct priv_confinement *c, const char **ret_what);

/* no_new_privs for this process and all it starts. */
int priv_no_new_privs(void);

/* Keeps exactly these capabilities (bits 1 << CAP_...) in the permitted, effective and bounding sets and none
 * inheritable or ambient. */
int priv_keep_capabilities(uint64_t mask);

/* That signal when the parent dies. -ESRCH: it is gone already (its pid is no longer `parent`). */
int priv_die_with_parent(pid_t parent, int signal);

/* Does this process run with effective uid 0? */
bool priv_is_root(void);

#endif
