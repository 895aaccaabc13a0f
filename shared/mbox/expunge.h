/*
 * One expunge. Internal to shared/mbox.
 */
#ifndef MBOX_EXPUNGE_H
#define MBOX_EXPUNGE_H

#include "shared/mbox/view.h"

struct doomed {
    uint64_t offset;
    uint64_t length;
    uint64_t position; /* record */
    uint64_t before;   /* doomed bytes in front of it */
};

struct expunge {
    struct box *b;
    struct doomed *doomed; /* in the order of the file */
    size_t count;
    size_t cap;
    struct numset uids;
};

#endif
