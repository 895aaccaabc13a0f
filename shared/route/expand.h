/*
 * Local part resolution (design, section 5): an address of ours becomes the places where its mail goes, by aliases(5),
 * the user database and the users' .forward files. Some of them may be on other machines.
 */
#ifndef ROUTE_EXPAND_H
#define ROUTE_EXPAND_H

#include "shared/route/answer.h"
#include "shared/route/rcpt.h"

#define EXPAND_TARGETS  1000  /* of one recipient */
#define EXPAND_ITEMS    10000 /* looked at for them: lists may name each other many times over */
#define EXPAND_INCLUDES 100   /* files read for them, of the aliases or of a .forward */
#define EXPAND_DEPTH    16    /* aliases, included files and .forwards within each other */

struct expansion {
    struct rcpt_target *targets;
    size_t count;
    char *owner; /* "owner-list" if there is such an alias: the sender of what goes through that list; or NULL */
};

/* Frees what an expansion holds. */
void expansion_finish(struct expansion *e);

/* The expansion of an address on another machine: that address. *ret must be fresh. 0 or -ENOMEM. */
int expand_remote(struct str address, struct expansion *ret);

/* Expands a parsed path; *ret must be fresh. 0, or a negative errno with the refusal in *ret_answer: -EREMOTE not our
 * domain, -ENOENT no such user, -EAGAIN something cannot be read now, -ELOOP, -E2BIG, -EINVAL an alias that makes no
 * sense, -ENOMEM. */
int expand_path(const struct conf *conf, const struct smtp_path *path, const char *local_address, struct expansion *ret,
                struct smtp_answer *ret_answer);

#endif
