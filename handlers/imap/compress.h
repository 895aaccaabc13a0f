/*
 * COMPRESS=DEFLATE (RFC 4978): a filter between the session and its connection.
 */
#ifndef IMAP_COMPRESS_H
#define IMAP_COMPRESS_H

#include "handlers/imap/imap.h"

struct compress;

/* From now on both directions are compressed; flush what was written in the clear before. What is buffered of the input
 * already is compressed. 0, -ENOMEM. */
int compress_start(struct imap *s);
void compress_free(struct compress *c); /* NULL is fine */

#endif
