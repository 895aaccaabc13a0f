/*
 * Read-ahead: pieces of the mbox file that were read under a lock, kept by a view as long as the index says that the
 * file is the same. Whoever reads messages in order then needs a few system calls for dozens of them; whoever wants
 * their headers only has these read without what lies between. Internal to shared/mbox.
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

#define BLOCK_PIECES 128u

struct block_pieces {
    struct {
        uint64_t offset; /* in the file */
        size_t len;
    } at[BLOCK_PIECES]; /* ascending */
    size_t count;
    size_t bytes; /* of all */
};

struct block {
    uint8_t *data; /* NULL until the first read-ahead; the pieces lie in it one after the other */
    struct block_pieces pieces;
    size_t window;    /* bytes that the next read-ahead takes: grows while messages are read in order */
    uint64_t next;    /* in the file, behind the message that was begun last */
    unsigned headers; /* messages in a row of which the header alone was read */
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

/* How many headers are worth reading at once: 0 unless headers alone were read lately, then more and more. */
size_t block_headers(const struct block *b);

/* Adds to the pieces that are to be read, in ascending order; they are one where little lies between them. False: no
 * more fits. */
bool block_add_piece(struct block_pieces *p, uint64_t offset, size_t len);

/* Reads these pieces as block_fill() does. -EAGAIN: not all of it is in memory, and then a disk is faster with
 * block_fill(), in one go. */
int block_fill_pieces(struct block *b, int fd, const struct block_key *key, const struct block_pieces *p);

/* Gives the memory back. */
void block_finish(struct block *b);

#endif
