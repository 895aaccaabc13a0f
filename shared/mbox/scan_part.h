/*
 * A scanner that may begin anywhere, of which scan_file() and the thread that helps it have one each. Internal to
 * shared/mbox.
 */
#ifndef MBOX_SCAN_PART_H
#define MBOX_SCAN_PART_H

#include "shared/mbox/fromline.h"
#include "shared/mbox/hash.h"
#include "shared/mbox/scan.h"
#include "shared/mbox/scan_find.h"

#define SCAN_HISTORY 4  /* consumed bytes kept in front: two CRLFs */
#define SCAN_SLACK   64 /* what a scan_finder may read behind the end */
#define SCAN_FIRST   (32u << 10) /* bytes that are read at first: enough for most who look at one message only */

enum scan_class { CLASS_NORMAL, CLASS_HIDDEN };

struct scanner {
    int fd;
    const uint64_t *key;
    uint8_t *buf; /* `size` and SCAN_SLACK bytes */
    size_t size;
    size_t first; /* so much is read at first, at most SCAN_FIRST */
    size_t pos; /* what has not been consumed */
    size_t len;
    uint64_t base; /* file offset of buf[0] */
    bool is_eof;
    bool is_first; /* the first message of the file */
    struct scan_message m;
    struct mhash hash;
    size_t text; /* what is to be hashed next: buf[text] up to buf[text_end] */
    size_t text_end;
    scan_finder *find;
    struct scan_counts counts;
    struct fromline from; /* of the From_ line that was found last, at this place in the file */
    uint64_t from_at;
    struct buf keywords;
    struct buf base_keywords;
    bool lacks_room; /* there were more keywords than that */
    bool in_block;   /* only interop fields so far */
    bool has_lines;  /* a header line was seen */
    bool is_pseudo_subject;
    enum scan_class class; /* of the current header field */
};

/* 0 or -ENOMEM; scan_finish() is always due, and scan_at() is next. The buffer is small until more is needed than is
 * read at first; scan_enlarge() makes it as large as it gets, for one who may not ask for memory later. */
int scan_begin(struct scanner *s, int fd, const uint64_t *key);
int scan_enlarge(struct scanner *s);
void scan_finish(struct scanner *s);

/* Goes on at this place: where a message begins, or for scan_search(). */
void scan_at(struct scanner *s, uint64_t offset);

static inline uint64_t scan_offset(const struct scanner *s)
{
    return s->base + s->pos;
}

/* Skips empty lines at the beginning of the file, and makes sure that there is something to look at. */
int scan_prefix(struct scanner *s);

/* Where the next message begins, at this place (not within the first bytes of the file) or behind it. Whether a line
 * begins one does not depend on what is further in front of it than SCAN_HISTORY. */
int scan_search(struct scanner *s, bool *ret_found);

/* One message, into s->m. *ret_more: another one follows. */
int scan_one(struct scanner *s, bool *ret_more);

#endif
