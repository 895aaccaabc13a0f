/*
 * A store in memory under pop3-session, which fails where a test says so: what the real one does only when disks are
 * full and other programs are at work.
 */
#ifndef TESTS_POP3_STORE_H
#define TESTS_POP3_STORE_H

#include "shared/mbox/mbox.h"

struct pop3_fake {
    const char *messages[8];
    uint32_t flags[8];
    int64_t saved[8];
    uint32_t count;
    size_t piece; /* bytes of a message at a time */
    int open_error;
    int read_error; /* of every message */
    int remove_error;
    bool has_journal;   /* what failed is finished by the next poll */
    bool is_replayed;   /* and that has happened */
    uint32_t vanished;  /* number of a message that is gone */
    size_t vanishes_at; /* bytes of it that can still be read */
    struct numset removed;
    struct numset seen;
    unsigned removals;
    unsigned left;
    unsigned closed;
};

extern struct pop3_fake fake;

#endif
