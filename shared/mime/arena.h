/*
 * Memory of a MIME tree: pieces that never move and are freed together. Private to shared/mime.
 */
#ifndef MIME_ARENA_H
#define MIME_ARENA_H

#include <stddef.h>

#include "shared/base/str.h"

struct mime_arena;

/* NULL when out of memory. */
struct mime_arena *mime_arena_new(void);
void mime_arena_free(struct mime_arena *a); /* NULL is fine */

/* Zeroed memory for any type; NULL when out of memory. */
void *mime_arena_alloc(struct mime_arena *a, size_t size);

/* Copies a view. A null view stays null; an empty one does not become null. 0, -ENOMEM. Over LIMIT_MIME_TEXT bytes in
 * all: 0 and *ret is null. */
int mime_arena_copy(struct mime_arena *a, struct str s, struct str *ret);

#endif
