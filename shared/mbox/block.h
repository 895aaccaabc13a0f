/*
 * Read-ahead: a piece of the mbox file that was read under a lock, kept by a view as long as the index says that the
 * file is the same. Whoever reads messages in order then needs a few system calls for dozens of them. Internal to
 * shared/mbox.
 */
#ifndef MBOX_BLOCK_H
#define MBOX_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct index_header;

/* What the index says about the file: places found under one key are right for bytes read under the same. */
struct block_key {
    uint64_t generation;
    uint64_t ino;
    uint64_t size;
    int64_t mtime;
    int64_t ctime;
    uint32_t mtime_ns;
    uint32_t ctime_ns;
};

struct block {
    uint8_t *data; /* NULL until the first read-ahead */
    size_t len;
    size_t window;   /* bytes that the next read-ahead takes: grows while messages are read in order */
    uint64_t offset; /* in the file, of data[0] */
    uint64_t next;   /* in the file, behind the message that was begun last */
    struct block_key key;
};

/* The key of this moment; false while somebody changes the index. */
bool block_key(const struct index_header *h, struct block_key *ret);

/* Up to `len` bytes at `offset` in the block, if it was read under this key: how many there are, good until the next
 * call that changes it. */
size_t block_look(const struct block *b, const struct block_key *key, uint64_t offset, size_t len,
                  const uint8_t **ret_bytes);

/* Remembers where a message lies that is going to be read. True: it follows the last one. */
bool block_follows(struct block *b, uint64_t offset, uint64_t length);

/* Reads ahead from `offset`, at least `len` bytes if the file has them; the caller holds the read lock and `key`
 * describes the file. 0 or a negative errno; on failure the block is empty. */
int block_fill(struct block *b, int fd, const struct block_key *key, uint64_t offset, size_t len);

/* Gives the memory back. */
void block_finish(struct block *b);

#endif
