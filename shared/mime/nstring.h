/*
 * IMAP strings in responses (RFC 9051 4.3, 9): the shortest correct form for any bytes.
 */
#ifndef MIME_NSTRING_H
#define MIME_NSTRING_H

#include <stdbool.h>

#include "shared/base/buf.h"

/* Appends a string: quoted if it is short and has no CR, LF, NUL or 8-bit byte (is_utf8: valid UTF-8 may be quoted too,
 * RFC 6855 3, RFC 9051 4.3), else a literal. NULs, which no string can carry, are left out. 0, -ENOBUFS, -ENOMEM. */
int nstring_add(struct buf *out, struct str s, bool is_utf8);

/* The same, NIL for a null view. */
int nstring_add_nil(struct buf *out, struct str s, bool is_utf8);

#endif
