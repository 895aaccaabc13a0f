/*
 * Flag blocks written into the file. Internal to shared/mbox.
 */
#ifndef MBOX_FLUSH_H
#define MBOX_FLUSH_H

#include "shared/mbox/box.h"

/* Appends the names of these keywords with blanks between. */
int flush_keywords(const struct index_header *h, uint64_t bits, struct buf *out);

/* Appends the block that a message should have, with exactly this length. -ENOBUFS: too much for it. */
int flush_render(const struct index_header *h, const struct index_record *rec, const struct interop_marker *marker,
                 bool has_base, size_t length, struct buf *out);

/* The least length that its block can have, *ret. */
int flush_least(const struct index_header *h, const struct index_record *rec, const struct interop_marker *marker,
                bool has_base, size_t *ret);

/* What a record says when the file has all of it in a block of the message's own. */
void flush_mark(struct index_record *rec);

/* Do lines end at the same places? Then a torn write leaves a block that still is one. */
bool flush_has_same_lines(const char *a, const char *b, size_t len);

/* With BOX_WRITE and BOX_STATE: writes what is pending. */
int box_flush(struct box *b);

#endif
