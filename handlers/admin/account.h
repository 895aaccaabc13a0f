/*
 * Whose mailbox `pennypost check` uses, and with which password it logs in. The user named, else the invoking user: as
 * root the one who became root (sudo, doas, su), with a device password for the time of the check, since nobody has to
 * type anything. Root himself has no mail login: a throw-away Unix account with a random password, made and removed
 * again, takes his place, and the whole path through PAM and /etc/shadow is tried.
 */
#ifndef ADMIN_ACCOUNT_H
#define ADMIN_ACCOUNT_H

#include <stdbool.h>

#include "shared/base/buf.h"
#include "shared/base/conf.h"
#include "shared/base/limits.h"

#define ACCOUNT_THROWAWAY "pennypost-check"

struct account {
    char name[LIMIT_USER + 1];
    struct buf password; /* wiped by account_finish() */
    bool is_throwaway;   /* we made it: account_finish() removes it with its mail */
    bool is_lent;        /* the password is a device password that we made: account_finish() revokes it */
};

/* `user`: NULL for the invoking user. `password_file`: NULL to ask on the terminal. 0; or negative with a sentence in
 * *why. */
int account_choose(const struct conf *conf, const char *user, const char *password_file, struct account *ret,
                   struct buf *why);

/* Removes a throw-away account and its mailbox; wipes the password. 0 or negative: something was left behind. */
int account_finish(const struct conf *conf, struct account *a);

#endif
