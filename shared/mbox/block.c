/*
 * Read-ahead of a view (see block.h). Runs as the user.
 */
#include "shared/mbox/block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/mbox/box.h"

#define BLOCK_MIN (32u << 10)
#define BLOCK_MAX (256u << 10)

bool block_key(const struct index_header *h, struct block_key *ret)
{
    struct block_key key;

    if (__atomic_load_n(&h->is_dirty, __ATOMIC_ACQUIRE) || h->is_superseded)
        return false;
    memset(&key, 0, sizeof(key)); /* compared as a whole */
    key.generation = h->generation;
    key.ino = h->ino;
    key.size = h->size;
    key.mtime = h->mtime;
    key.ctime = h->ctime;
    key.mtime_ns = h->mtime_ns;
    key.ctime_ns = h->ctime_ns;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (__atomic_load_n(&h->is_dirty, __ATOMIC_ACQUIRE) || h->is_superseded)
        return false;
    *ret = key;
    return true;
}

size_t block_look(const struct block *b, const struct block_key *key, uint64_t offset, size_t len,
                  const uint8_t **ret_bytes)
{
    if (b->len == 0 || memcmp(&b->key, key, sizeof(*key)) != 0 || offset < b->offset || offset >= b->offset + b->len)
        return 0;

    size_t at = (size_t)(offset - b->offset);

    *ret_bytes = b->data + at;
    return len < b->len - at ? len : b->len - at;
}

bool block_follows(struct block *b, uint64_t offset, uint64_t length)
{
    bool follows = offset == b->next;

    b->next = offset + length;
    if (!follows)
        b->window = BLOCK_MIN;
    return follows;
}

int block_fill(struct block *b, int fd, const struct block_key *key, uint64_t offset, size_t len)
{
    size_t window = b->window < BLOCK_MIN ? BLOCK_MIN : b->window;
    int r;

    b->len = 0;
    if (!b->data && !(b->data = malloc(BLOCK_MAX)))
        return -ENOMEM;
    if (len > BLOCK_MAX)
        len = BLOCK_MAX;
    if (window < len)
        window = len;
    if (offset >= key->size)
        return -ENODATA;
    if (window > key->size - offset)
        window = (size_t)(key->size - offset);
    r = file_read(fd, b->data, window, offset);
    if (r < 0)
        return r;
    b->len = window;
    b->offset = offset;
    b->key = *key;
    b->window = window * 2 < BLOCK_MAX ? window * 2 : BLOCK_MAX;
    return 0;
}

void block_finish(struct block *b)
{
    free(b->data);
    b->data = NULL;
    b->len = 0;
    b->window = 0;
}
