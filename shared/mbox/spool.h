/*
 * Messages on their way into a mailbox: converted from wire form to what is stored (LF, mboxrd quoting), held in memory
 * up to a limit, then in an unnamed file. Internal to shared/mbox.
 */
#ifndef MBOX_SPOOL_H
#define MBOX_SPOOL_H

#include "shared/mbox/hash.h"
#include "shared/mbox/interop.h"
#include "shared/mbox/mbox.h"

struct spool_message {
    struct buf sender;
    struct buf keywords; /* names with blanks between */
    uint32_t flags;
    int64_t date;
    int16_t zone;
    uint64_t offset; /* in the spool */
    uint64_t length;
    uint64_t lines;
    uint64_t sum;
    size_t extra; /* by which its block is longer than it needs to be */
};

struct spool {
    const char *folder; /* where an unnamed file may be made first; may be NULL */
    struct buf mem;     /* what is not in the file yet */
    int fd;             /* -1: nothing is */
    uint64_t in_file;
    struct spool_message *messages;
    size_t count;
    int error; /* a message could not be ended: nothing of all this can be used */
    /* the message being written */
    bool is_open;
    bool is_header;
    bool is_inside; /* its current line has begun to be stored */
    bool has_cr;    /* a CR that has not been stored: a LF may follow */
    uint64_t size_max;
    struct mhash hash;
    char line[INTEROP_WINDOW];
    size_t line_len;
};

/* Empty. What does not fit into memory goes to an unnamed file in `folder`, borrowed. */
void spool_init(struct spool *s, const char *folder);
void spool_finish(struct spool *s);

/* Begins a message; ends the one before. */
int spool_begin(struct spool *s, const struct mbox_append_options *options, int64_t now, int16_t zone);
int spool_write(struct spool *s, const void *data, size_t len);

/* Forgets the last message. */
void spool_drop(struct spool *s);

/* Ends the last message. */
int spool_end(struct spool *s);

/* Reads stored bytes. */
int spool_read(struct spool *s, uint64_t offset, void *data, size_t len);

#endif
