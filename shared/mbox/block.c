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

/* A read of its own costs as much as to copy PIECE_GAP bytes. */
#define PIECE_GAP     (4u << 10)
#define HEADERS_SEEN  2 /* whoever wants the bodies too reads everything */
#define HEADERS_AHEAD 4 /* times as many as were read */

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
    const struct block_pieces *p = &b->pieces;
    const uint8_t *data = b->data;

    if (p->count == 0 || memcmp(&b->key, key, sizeof(*key)) != 0)
        return 0;
    for (size_t i = 0; i < p->count && offset >= p->at[i].offset; data += p->at[i++].len) {
        uint64_t skip = offset - p->at[i].offset;

        if (skip >= p->at[i].len)
            continue;
        *ret_bytes = data + skip;
        return len < p->at[i].len - skip ? len : p->at[i].len - (size_t)skip;
    }
    return 0;
}

bool block_follows(struct block *b, uint64_t offset, uint64_t length)
{
    bool follows = offset == b->next;

    b->next = offset + length;
    if (!follows) {
        b->window = BLOCK_MIN;
        b->headers = 0;
    }
    return follows;
}

/* The block is empty now, and has memory. */
static int make_room(struct block *b)
{
    b->pieces.count = b->pieces.bytes = 0;
    if (b->data == NULL)
        b->data = malloc(BLOCK_MAX);
    return b->data == NULL ? -ENOMEM : 0;
}

int block_fill(struct block *b, int fd, const struct block_key *key, uint64_t offset, size_t len)
{
    size_t window = b->window < BLOCK_MIN ? BLOCK_MIN : b->window;
    int r = make_room(b);

    if (r < 0)
        return r;
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
    (void)block_add_piece(&b->pieces, offset, window); /* the first one fits */
    b->key = *key;
    b->window = window * 2 < BLOCK_MAX ? window * 2 : BLOCK_MAX;
    return 0;
}

size_t block_headers(const struct block *b)
{
    if (b->headers < HEADERS_SEEN)
        return 0;
    return b->headers < BLOCK_PIECES / HEADERS_AHEAD ? b->headers * HEADERS_AHEAD : BLOCK_PIECES;
}

bool block_add_piece(struct block_pieces *p, uint64_t offset, size_t len)
{
    size_t last = p->count - 1, gap = 0;
    uint64_t end;

    if (p->count > 0) {
        end = p->at[last].offset + p->at[last].len;
        if (offset < end)
            return false;
        gap = offset - end <= PIECE_GAP ? (size_t)(offset - end) : 0;
    }
    if (len > BLOCK_MAX - p->bytes || gap > BLOCK_MAX - p->bytes - len)
        return false;
    if (p->count > 0 && offset - end <= PIECE_GAP) {
        p->at[last].len += gap + len;
    } else if (p->count < BLOCK_PIECES) {
        p->at[p->count].offset = offset;
        p->at[p->count++].len = len;
    } else {
        return false;
    }
    p->bytes += gap + len;
    return true;
}

int block_fill_pieces(struct block *b, int fd, const struct block_key *key, const struct block_pieces *p)
{
    uint8_t *to;
    int r = make_room(b);

    if (r < 0)
        return r;
    to = b->data;
    for (size_t i = 0; i < p->count; i++) {
        if ((r = file_read_now(fd, to, p->at[i].len, p->at[i].offset)) < 0)
            return r;
        to += p->at[i].len;
    }
    b->pieces = *p;
    b->key = *key;
    return 0;
}

void block_finish(struct block *b)
{
    free(b->data);
    b->data = NULL;
    b->pieces.count = b->pieces.bytes = 0;
    b->window = 0;
    b->headers = 0;
}
