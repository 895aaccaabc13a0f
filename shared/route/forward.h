/*
 * Where a user says that he forwards his mail: `forward` of the configuration, most often ~/.forward.
 */
#ifndef ROUTE_FORWARD_H
#define ROUTE_FORWARD_H

#include "shared/base/buf.h"
#include "shared/base/conf.h"
#include "shared/gate/priv.h"
#include "shared/route/rcpt.h"

#define FORWARD_MAX (64u << 10) /* bytes of a .forward */

/* Reads "FILE+detail", else "FILE", as the user that a target names; a file that others could write does not count. 0
 * with the text, and in *ret_user the user with all his groups; -ENOENT: he has none; another errno: nobody can tell.
 */
int forward_read(const struct conf *conf, const struct rcpt_target *t, struct str detail, struct buf *out,
                 struct priv_user *ret_user);

#endif
