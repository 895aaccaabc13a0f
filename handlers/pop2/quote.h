/*
 * Arguments of POP2 commands (RFC 937, Quoting): a backslash takes the next character as it is.
 */
#ifndef POP2_QUOTE_H
#define POP2_QUOTE_H

#include <stdbool.h>

#include "shared/base/buf.h"
#include "shared/base/str.h"

/* Takes an argument off *arguments and appends it to `out` without its backslashes: up to the next blank that has none
 * in front, which is taken too, or all there is if it is the last one (a password or mailbox name may have blanks in it
 * that nobody quoted). -EINVAL: there is none, or nothing follows the backslash; -ENOBUFS: longer than `out` may be. */
int quote_take(struct str *arguments, bool is_last, struct buf *out);

#endif
