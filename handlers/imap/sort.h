/*
 * SORT (RFC 5256): ordering messages by criteria.
 */
#ifndef IMAP_SORT_H
#define IMAP_SORT_H

#include "handlers/imap/imap.h"

enum sort_by {
    SORT_ARRIVAL,
    SORT_CC,
    SORT_DATE,
    SORT_FROM,
    SORT_SIZE,
    SORT_SUBJECT,
    SORT_TO,
    SORT_DISPLAYFROM, /* RFC 5957 */
    SORT_DISPLAYTO,
};

struct sort_criterion {
    enum sort_by by;
    bool is_reverse;
};

#define SORT_CRITERIA 16u

struct sort_program {
    struct sort_criterion items[SORT_CRITERIA];
    size_t count;
};

/* Parses "(" [REVERSE] key ... ")". */
int sort_parse(struct imap *s, struct sort_program *ret);

/* Orders messages (sequence numbers); *ret is an array of numset_size(found) numbers, freed by the caller. */
int sort_messages(struct imap *s, const struct sort_program *program, const struct numset *found, uint32_t **ret);

#endif
