/*
 * Preview text (RFC 8970): the first PREVIEW_CHARACTERS characters that a reader would see, in UTF-8, on one line.
 */
#ifndef MIME_PREVIEW_H
#define MIME_PREVIEW_H

#include <stdbool.h>

#include "shared/mime/structure.h"

#define PREVIEW_CHARACTERS 256   /* RFC 8970 3.2: at most 256 characters */
#define PREVIEW_BYTES      65536 /* of a part that are looked at */

/* The part to preview: the first text/plain, else the first text/html, else another text part, that is not an
 * attachment. NULL: nothing that could be shown (the preview is empty). */
const struct mime_part *preview_part(const struct mime_part *root);

struct preview;

/* For that part; then feed it the bytes [body, end) until it is full, and take the text. */
int preview_new(const struct mime_part *part, struct preview **ret);
void preview_free(struct preview *p);
int preview_feed(struct preview *p, struct str piece, bool *ret_is_full);

/* Appends the preview text. 0, -ENOBUFS, -ENOMEM. */
int preview_end(struct preview *p, struct buf *out);

#endif
