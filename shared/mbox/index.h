/*
 * The index file: what is known about the messages, one record for each, behind a header. Internal to shared/mbox.
 *
 * A record has two parts, and they do not stand together. What changes with flags is its brief, a quarter of it; the
 * rest changes when the message moves. Records come in groups of INDEX_GROUP: first their briefs, then their rests, so
 * that whoever looks at or changes the flags of a whole mailbox meets a quarter of the bytes. Each part has a checksum
 * of its own, that of the rest also over the UID, so that parts of two messages do not fit together.
 *
 *     header | briefs 0 to 4095 | rests 0 to 4095 | briefs 4096 to 8191 | rests 4096 to 8191 | ...
 */
#ifndef MBOX_INDEX_H
#define MBOX_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"
#include "shared/mbox/hash.h"
#include "shared/mbox/mbox.h"

struct box;

enum index_bit {
    INDEX_EXPUNGED = 1u << 0,      /* gone; the record stays until the index is rebuilt, so that views can tell */
    INDEX_UID_IN_FILE = 1u << 1,   /* the file's X-UID is the right one */
    INDEX_PENDING = 1u << 2,       /* flags differ from what the file says */
    INDEX_LACKS_NEWLINE = 1u << 3, /* see struct scan_message */
    INDEX_HAS_STRAY = 1u << 4,
    INDEX_HAS_MARKER = 1u << 5,
    INDEX_HAS_BASE = 1u << 6,      /* carries X-IMAPbase */
    INDEX_HAS_INTEROP = 1u << 7,   /* the file says something about flags or UID */
    INDEX_IN_PLACE = 1u << 8,      /* our own append, and still where it was appended */
    INDEX_IS_TORN = 1u << 9,       /* and cut off by a crash, or with more in it than we wrote */
    INDEX_HAS_8BIT = 1u << 10,     /* bytes above 127 in the header that is shown */
    INDEX_OWN_KEYWORDS = 1u << 11, /* keywords are not file_keywords; kept by index_put() */
};

/* What changes with the flags of a message: the first part of its record. */
struct index_brief {
    uint64_t modseq;
    uint64_t keywords;
    uint32_t uid;
    uint8_t flags;      /* enum mbox_flag */
    uint8_t file_flags; /* the same as the file has them, INTEROP_OLD */
    uint16_t bits;
    uint16_t block;
    uint8_t separator;
    uint8_t form;   /* enum interop_form */
    uint32_t check; /* over what is before it */
};

/* One message, put together. Records stand in ascending order of UIDs, which nearly always is the order in the file
 * too. */
struct index_record {
    union {
        struct index_brief brief;
        struct { /* the same by its fields */
            uint64_t modseq;
            uint64_t keywords;
            uint32_t uid;
            uint8_t flags;
            uint8_t file_flags;
            uint16_t bits;
            uint16_t block;
            uint8_t separator;
            uint8_t form;
            uint32_t check;
        };
    };
    uint64_t offset;        /* of the From_ line */
    uint64_t length;        /* to the next From_ line or the end of the file */
    uint64_t size;          /* wire form */
    uint64_t file_keywords; /* as the file has them */
    int64_t internaldate;
    int64_t savedate;
    uint8_t hash[16];
    uint32_t header;
    uint16_t from_length;
    int16_t date_offset;
    uint32_t cache[MBOX_CACHE_KINDS]; /* place in the cache file in units of 16 bytes, 0: none */
    uint32_t rest_check;              /* over the rest, and the UID */
};
#define INDEX_BRIEF_SIZE sizeof(struct index_brief)
#define INDEX_REST_SIZE  (sizeof(struct index_record) - sizeof(struct index_brief))
_Static_assert(sizeof(struct index_record) == 128 && INDEX_BRIEF_SIZE == 32, "their size is part of the format");
_Static_assert(offsetof(struct index_record, offset) == INDEX_BRIEF_SIZE &&
                   offsetof(struct index_record, uid) == offsetof(struct index_brief, uid) &&
                   offsetof(struct index_record, bits) == offsetof(struct index_brief, bits) &&
                   offsetof(struct index_record, form) == offsetof(struct index_brief, form) &&
                   offsetof(struct index_record, check) == offsetof(struct index_brief, check),
               "a record begins with its brief");

#define INDEX_GROUP        4096u
#define INDEX_MAGIC        0x31584950504e4550u
#define INDEX_VERSION      7u
#define INDEX_HEADER_SIZE  16384u
#define INDEX_KEYWORD_SIZE (LIMIT_KEYWORD + 1)
#define INDEX_SIZES        64u

struct index_header {
    uint64_t magic;
    uint32_t version;
    uint32_t is_dirty;      /* an update is under way, or was when somebody died */
    uint32_t is_superseded; /* another index file has taken the place of this one */
    uint32_t uidvalidity;
    uint32_t uidnext;
    uint32_t recent;     /* first UID that no view has seen yet */
    uint64_t modseq;     /* highest */
    uint64_t generation; /* grows when places in the file change */
    uint64_t log_id;     /* of the state log that it was made with */
    uint64_t log_size;   /* how much of it is in here */
    uint8_t mailboxid[16];
    /* the mbox file that it describes; all zero: no file */
    uint64_t dev;
    uint64_t ino;
    uint64_t size;
    int64_t mtime;
    int64_t ctime;
    uint32_t mtime_ns;
    uint32_t ctime_ns;
    uint64_t prefix; /* bytes before the first message: empty lines, a pseudo message */
    uint64_t count;  /* records, with the expunged ones */
    uint64_t live;
    uint64_t last;          /* record of the message that stands last in the file; live > 0 */
    uint32_t base_validity; /* X-IMAPbase as the file has it */
    uint32_t base_last;
    uint32_t is_ordered; /* records ascend in the file too */
    uint32_t is_crlf;    /* the file has CRLF line ends */
    uint64_t expunges;   /* MODSEQ of the last change to the set of INDEX_EXPUNGED */
    uint64_t cache_id;
    uint64_t boot;       /* the start of the machine that wrote it last */
    uint32_t is_settled; /* all of it was durable before this was set */
    /* sums over the records of messages that are there, kept by index_put() */
    uint32_t unseen;
    uint32_t deleted;
    uint32_t unwritten;     /* index_is_unwritten() */
    uint64_t bytes;         /* of their wire forms */
    uint64_t first_unseen;  /* no record before this one is unseen */
    uint32_t logged;        /* index_is_logged() */
    uint32_t is_log_lazy;   /* the log holds UIDs that may not be durable yet: nobody was told them */
    uint64_t deleted_bytes; /* of the wire forms of those that are \Deleted */
    uint32_t is_unproven;   /* it grew, and what stands in front was not looked at yet, see sync_verify() */
    uint32_t proven;        /* record from which the next look at a part of a large file goes on */
    uint32_t is_sampled;    /* since all of it was read only parts were looked at */
    uint8_t reserved[4];
    uint64_t check;                                    /* over all before it */
    char keywords[LIMIT_KEYWORDS][INDEX_KEYWORD_SIZE]; /* NUL-terminated */
    uint64_t sizes[INDEX_SIZES];                       /* that the file had, see remember.h; 0: none */
    uint64_t sizes_next;                               /* where the next of them goes */
};
_Static_assert(sizeof(struct index_header) <= INDEX_HEADER_SIZE, "the header has its own pages");

struct index_batch;

struct index {
    int fd;
    uint64_t ino;
    const struct index_header *head; /* mapped, with the records behind it; NULL: no index */
    size_t mapped;                   /* bytes */
    struct index_header *next;       /* the header to write: a copy of *head that is changed under BOX_STATE */
    struct index_header *before;     /* as it was at index_begin(); both NULL until then */
    bool is_changed;                 /* records were written since */
    struct index_batch *batch;       /* records waiting to be written */
};

/* Where the parts of a record stand in the file, and how long it is with so many. */
static inline uint64_t index_brief_place(uint64_t at)
{
    return INDEX_HEADER_SIZE + at / INDEX_GROUP * INDEX_GROUP * sizeof(struct index_record) +
           at % INDEX_GROUP * INDEX_BRIEF_SIZE;
}

static inline uint64_t index_rest_place(uint64_t at)
{
    return INDEX_HEADER_SIZE + at / INDEX_GROUP * INDEX_GROUP * sizeof(struct index_record) +
           INDEX_GROUP * INDEX_BRIEF_SIZE + at % INDEX_GROUP * INDEX_REST_SIZE;
}

static inline uint64_t index_bytes(uint64_t count)
{
    return count == 0 ? INDEX_HEADER_SIZE : index_rest_place(count - 1) + INDEX_REST_SIZE;
}

/* A record as it is mapped: its brief in place, or all of it as a copy. What others write meanwhile shows in them, and
 * the parts of a copy may then be of two moments. */
static inline const struct index_brief *index_brief(const struct index *ix, uint64_t at)
{
    return (const struct index_brief *)(const void *)((const char *)ix->head + index_brief_place(at));
}

static inline struct index_record index_load(const struct index *ix, uint64_t at)
{
    _uninitialized_ struct index_record rec;

    memcpy(&rec.brief, index_brief(ix, at), INDEX_BRIEF_SIZE);
    memcpy((uint8_t *)&rec + INDEX_BRIEF_SIZE, (const char *)ix->head + index_rest_place(at), INDEX_REST_SIZE);
    return rec;
}

static inline uint64_t index_offset(const struct index *ix, uint64_t at)
{
    uint64_t offset; /* the first of the rest */

    memcpy(&offset, (const char *)ix->head + index_rest_place(at), sizeof(offset));
    return offset;
}

static inline const uint8_t *index_hash(const struct index *ix, uint64_t at)
{
    return (const uint8_t *)ix->head + index_rest_place(at) + offsetof(struct index_record, hash) - INDEX_BRIEF_SIZE;
}

static inline const uint8_t *index_rest(const struct index_record *rec)
{
    return (const uint8_t *)rec + INDEX_BRIEF_SIZE;
}

/* UID, both flags and bits as one number. */
static inline uint64_t index_brief_state(const struct index_brief *brief)
{
    return brief->uid | (uint64_t)brief->flags << 32 | (uint64_t)brief->file_flags << 40 | (uint64_t)brief->bits << 48;
}

/* Do the parts carry the right checksums? From field to field: what was changed a moment ago is read as it was written,
 * which processors are quicker at than at putting it together. */
static inline uint32_t index_brief_check(const struct index_brief *brief)
{
    uint64_t second = brief->block | (uint64_t)brief->separator << 16 | (uint64_t)brief->form << 24;

    return (uint32_t)mhash_words(brief->modseq, brief->keywords, index_brief_state(brief), second);
}

static inline bool index_brief_is_valid(const struct index_brief *brief)
{
    return brief->check == index_brief_check(brief);
}

static inline uint32_t index_rest_check(const struct index_record *rec)
{
    return (uint32_t)mhash_short(index_rest(rec), INDEX_REST_SIZE - sizeof(rec->rest_check), rec->uid);
}

static inline bool index_is_valid(const struct index_record *rec)
{
    return index_brief_is_valid(&rec->brief) && rec->rest_check == index_rest_check(rec);
}

/* Maps the index file if there is a valid one that fits the state log; otherwise leaves ix.head NULL. */
int index_open(struct box *b);
void index_close(struct box *b);

/* Makes sure that records [0, n) are mapped. */
int index_map(struct box *b, uint64_t n);

struct index_flags {
    uint64_t keywords;
    uint8_t flags;
};

/* Messages that follow one another, by their records and their UIDs, have the same flags and are to get the same. None
 * of them is gone. */
struct index_run {
    uint64_t at, count; /* records */
    uint64_t newest;    /* the highest of their MODSEQs */
    uint32_t uid;       /* of the first */
    struct index_flags before, after;
};

/* Changing: begin marks it dirty and copies the header to ix.next; put writes a record (behind or over others, in
 * batches), put_flags only flags, no keywords and not \Deleted, of some that are there, as `from` has them mapped and
 * whole; end writes everything and takes the mark away. */
int index_begin(struct box *b);
void index_get(const struct box *b, uint64_t at, struct index_record *ret); /* also what waits in the batch */
int index_put(struct box *b, uint64_t at, const struct index_record *rec);
int index_put_flags(struct box *b, const struct index *from, const struct index_run *run, uint64_t modseq);
int index_end(struct box *b);

/* With BOX_STATE: something in the index is damaged, it has to be made anew. -EIO, or what kept it from being said. */
int index_spoil(struct box *b);

/* Drops what was not written yet. If records were written already the index stays dirty: the next one rebuilds it. */
void index_abort(struct box *b);

/* Starts an empty index, `again` with the header of another; index_install() gives its file the name of the index.
 * What was begun before and not installed loses its name to it. */
int index_new(struct box *b, struct index *ret);
int index_again(struct box *b, const struct index_header *h, struct index *ret);
int index_install(struct box *b, struct index *fresh);
int index_add(struct index *ix, const struct index_record *rec);
int index_rewrite(struct index *fresh, uint64_t at, const struct index_record *rec);
int index_map_fresh(struct index *fresh); /* writes what is gathered, so that the records of fresh can be read */
void index_finish(struct index *ix);

/* The first record from `from` on with a UID of at least `uid`. */
uint64_t index_find(const struct index *ix, uint64_t from, uint32_t uid);

/* Does the file lack something of this message that should be written there? A UID alone is not worth the making of a
 * flag block. */
static inline bool index_is_unwritten(const struct index_brief *brief)
{
    return !(brief->bits & INDEX_EXPUNGED) &&
           ((brief->bits & INDEX_PENDING) || (brief->block > 0 && !(brief->bits & INDEX_UID_IN_FILE)));
}

/* Does the state log know something of it that the file does not say? */
static inline bool index_is_logged(const struct index_brief *brief)
{
    return !(brief->bits & INDEX_EXPUNGED) && ((brief->bits & INDEX_PENDING) || !(brief->bits & INDEX_UID_IN_FILE));
}

/* The header as of one moment, without its keywords and without a lock. False: it is being changed just now. */
bool index_look(const struct index *ix, struct index_header *ret);

/* Drops the records of what is gone when there are too many of them, and the file of an index that was not finished. */
int index_purge(struct box *b);
void index_discard(struct box *b, struct index *fresh);

/* Fills the fields of the header that say which file it describes. */
void index_describe(struct index_header *h, const struct stat *st);
bool index_describes(const struct index_header *h, const struct stat *st);

/* Writes a header, with its check, into an index file, but for the keywords and what follows them, which stay as they
 * are there. 0 or a negative errno. */
int index_write_header(int fd, struct index_header *h);

#endif
