/*
 * The base subject of SORT and THREAD (RFC 5256 2.1).
 */
#ifndef MIME_SUBJECT_H
#define MIME_SUBJECT_H

#include <stdbool.h>

#include "shared/base/buf.h"

/* Appends the base subject of a Subject field's body, in UTF-8 and in the case it was written in; *ret_is_reply (may be
 * NULL) tells whether it was a reply or forward. 0, -ENOBUFS, -ENOMEM. */
int subject_base(struct str body, struct buf *out, bool *ret_is_reply);

#endif
