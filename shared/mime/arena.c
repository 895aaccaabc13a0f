/*
 * Memory of a MIME tree: see arena.h.
 */
#include "shared/mime/arena.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/limits.h"

#define BLOCK_SIZE 4000

struct block {
    struct block *next;
    size_t size;
    size_t used;
    max_align_t data[];
};

struct mime_arena {
    struct block *blocks; /* the first one has room */
    size_t text;          /* bytes of copied views */
};

struct mime_arena *mime_arena_new(void)
{
    return calloc(1, sizeof(struct mime_arena));
}

void mime_arena_free(struct mime_arena *a)
{
    while (a && a->blocks) {
        struct block *next = a->blocks->next;

        free(a->blocks);
        a->blocks = next;
    }
    free(a);
}

/* `align` is 1 for bytes: strings lie close together. */
static void *arena_take(struct mime_arena *a, size_t size, size_t align)
{
    struct block *b = a->blocks;
    size_t at = b ? (b->used + align - 1) & ~(align - 1) : 0;

    if (!b || at > b->size || size > b->size - at) {
        size_t block_size = size > BLOCK_SIZE / 2 ? size : BLOCK_SIZE;

        b = malloc(sizeof(*b) + block_size);
        if (!b)
            return NULL;
        b->size = block_size;
        at = 0;
        /* A block that is full at once goes behind the one that still has room. */
        if (block_size == size && a->blocks) {
            b->next = a->blocks->next;
            a->blocks->next = b;
        } else {
            b->next = a->blocks;
            a->blocks = b;
        }
    }
    b->used = at + size;
    return (char *)b->data + at;
}

/* Only what is handed out is cleared: most trees are far smaller than a block. */
void *mime_arena_alloc(struct mime_arena *a, size_t size)
{
    void *p = arena_take(a, size, _Alignof(max_align_t));

    return p ? memset(p, 0, size) : NULL;
}

int mime_arena_copy(struct mime_arena *a, struct str s, struct str *ret)
{
    char *p;

    if (!s.ptr || s.len > LIMIT_MIME_TEXT - a->text) {
        *ret = STR_NULL;
        return 0;
    }
    if (!s.len) {
        *ret = STR("");
        return 0;
    }
    p = arena_take(a, s.len, 1);
    if (!p)
        return -ENOMEM;
    memcpy(p, s.ptr, s.len);
    a->text += s.len;
    *ret = (struct str){p, s.len};
    return 0;
}
