/*
 * What the parser and the reader of cached trees need to make parts. Private to shared/mime.
 */
#ifndef MIME_PART_H
#define MIME_PART_H

#include "shared/mime/arena.h"
#include "shared/mime/structure.h"

/* Makes `child` the next child of `parent` behind `last` (NULL: the first). */
void mime_part_link(struct mime_part *parent, struct mime_part *last, struct mime_part *child);

/* Sets kind, type and all that comes from the header, by the defaults of its parent where there is none. 0, -ENOMEM. */
int mime_part_fill(struct mime_part *part, struct str header, struct mime_arena *arena);

/* Gives a part that has no child one that is text/plain, without a header, and covers its body. 0, -ENOMEM. */
int mime_part_add_text_child(struct mime_part *part, struct mime_arena *arena, uint32_t *count);

#endif
