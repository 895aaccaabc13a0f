/*
 * IMAP's BODY and BODYSTRUCTURE (RFC 9051 7.5.2) of a tree.
 */
#ifndef MIME_BODYSTRUCTURE_H
#define MIME_BODYSTRUCTURE_H

#include "shared/mime/structure.h"

/* Appends the parenthesised structure of the part and all below it; is_extended: BODYSTRUCTURE, else BODY. is_utf8: as
 * nstring_add(). Well-formed for every tree. 0, -ENOBUFS, -ENOMEM. */
int bodystructure_print(const struct mime_part *part, bool is_extended, bool is_utf8, struct buf *out);

#endif
