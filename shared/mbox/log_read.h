/*
 * The entries of the state log, and the reader that walks over them. Internal to shared/mbox.
 */
#ifndef MBOX_LOG_READ_H
#define MBOX_LOG_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/limits.h"

#define LOG_MAGIC     0x31544154534e4550u
#define LOG_ENTRY_MAX (1u << 20)

enum log_type {
    LOG_BASE = 1,
    LOG_KEYWORD,
    LOG_NEXT,
    LOG_MESSAGE,  /* this content has this UID, and perhaps flags, and the file does not say so */
    LOG_FLAGS,    /* these UIDs have exactly these flags */
    LOG_EXPUNGED, /* these UIDs are gone */
    LOG_FLUSHED,  /* the file has UID and flags of these */
};

struct log_head {
    uint64_t magic;
    uint64_t id;        /* random, so that an index knows its log */
    uint64_t compacted; /* size when it was started */
    uint64_t check;
};

struct log_entry {
    uint32_t type;
    uint32_t len;
    uint64_t check;
};

struct log_base {
    uint32_t uidvalidity;
    uint32_t uidnext;
    uint64_t modseq;
    uint64_t floor;
    uint32_t recent;
    uint32_t reserved;
    uint8_t mailboxid[16];
};

struct log_keyword {
    uint32_t number;
    char name[LIMIT_KEYWORD + 4];
};

struct log_next {
    uint32_t uidnext;
    uint32_t reserved;
    uint64_t modseq;
};

struct log_uid {
    uint32_t uid;
    uint8_t flags;
    uint8_t has_flags;
    uint8_t reserved[2];
    uint64_t keywords;
    uint64_t modseq;
    int64_t savedate;
    uint8_t hash[16];
};

/* Followed by struct numrange. */
struct log_ranges {
    uint64_t modseq;
    uint64_t keywords;
    uint32_t flags;
    uint32_t changed; /* of LOG_FLAGS: log_changed() of what the flags were not before; 0: not known */
};

/* Which flags a change was about, in a word: each system flag has its bit, keywords share some. */
uint32_t log_changed(uint32_t system, uint64_t keywords);

struct log_reader {
    int fd;
    uint64_t at;     /* of the next entry */
    uint64_t size;   /* of the file */
    struct buf data; /* payload of the current entry */
    uint32_t type;
};

/* The checksums that an entry and the head of the log have to carry. */
uint64_t log_check(enum log_type type, const void *payload, size_t len);
uint64_t log_head_check(const struct log_head *head);
bool log_head_is_valid(const struct log_head *head);
size_t log_padding(size_t len);

/* Walks from `at`. log_next() gives 1 for an entry, 0 at the end of what is valid (r->at tells where that is), or a
 * negative errno. */
int log_reader_init(struct log_reader *r, int fd, uint64_t at);
int log_next(struct log_reader *r);
void log_reader_finish(struct log_reader *r);

/* Is there a valid entry anywhere behind the place where the reader stopped? Then the log was not torn by a crash, but
 * damaged. */
bool log_goes_on(struct log_reader *r);

/* Appends the current entry as it is. */
int log_put_raw(struct buf *out, const struct log_reader *r);

/* The ranges of the current entry as a view of numranges. */
bool log_ranges(const struct log_reader *r, struct log_ranges *ret_head, const char **ret_ranges, size_t *ret_count);

#endif
