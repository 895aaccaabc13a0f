/*
 * What is in an mbox file and what is wrong with it: `pennypost mbox check` and `repair` share it. Each thing that is
 * wrong is a finding; one that can be put right carries the edit that does it in a copy. The file is only read.
 */
#ifndef ADMIN_MBOX_LOOK_H
#define ADMIN_MBOX_LOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "shared/base/buf.h"
#include "shared/base/numset.h"

#define LIMIT_FINDINGS 10000 /* of one file: more is not an mbox gone wrong but something else */

struct mbox_finding {
    uint64_t offset;  /* where in the file */
    uint32_t message; /* number, 0: none */
    char *text;       /* what is wrong */
    bool is_fixable;
    char *fix;         /* what the repair does about it */
    uint64_t removed;  /* bytes at `offset` that the copy leaves out */
    struct buf insert; /* bytes that the copy has there instead */
};

struct mbox_look {
    int fd; /* borrowed */
    const char *path;
    struct stat st;
    uint64_t start; /* of the first From_ line; the file's size when there is none */
    uint32_t messages;
    uint32_t own;         /* written by us */
    uint32_t pseudo;      /* FOLDER INTERNAL DATA of UW-IMAP */
    uint32_t uidvalidity; /* X-IMAPbase, 0: none */
    uint32_t uidlast;
    uint64_t crlf_lines; /* of the messages, as far as they were looked at line by line */
    uint64_t lf_lines;
    struct numset uids;
    struct mbox_finding *findings; /* ascending offsets */
    size_t count;
    size_t cap;
    bool is_full; /* more than LIMIT_FINDINGS */
};

/* Looks at the whole file. 0 (whatever it found), or a read error, -ENOMEM. */
int mbox_look(int fd, const char *path, struct mbox_look *ret);
void mbox_look_finish(struct mbox_look *look);

/* Writes the repaired copy to `out`: the file with all edits applied. */
int mbox_look_copy(const struct mbox_look *look, int out);

#endif
