/*
 * THREAD (RFC 5256 3): messages grouped into conversations. THREAD=REFS is REFERENCES without the grouping by subject,
 * and with the threads in the order of their newest message's arrival (draft-ietf-morg-inthread).
 *
 * A thread forest is an array of nodes that point to each other by index; 0 is nobody. Nothing recurses and nothing is
 * quadratic: a chain of replies may be as long as the mailbox.
 */
#ifndef IMAP_THREAD_H
#define IMAP_THREAD_H

#include "handlers/imap/imap.h"

enum thread_algorithm { THREAD_ORDEREDSUBJECT, THREAD_REFERENCES, THREAD_REFS };

struct thread_node {
    uint64_t id;  /* hash of the Message-ID */
    uint32_t seq; /* 0: a dummy, a message that is not there */
    uint32_t parent;
    uint32_t child; /* first */
    uint32_t next;  /* sibling */
    uint32_t children;
    bool is_reply;
    int64_t date;      /* sent */
    int64_t arrival;   /* INTERNALDATE */
    size_t subject_at; /* base subject, in forest.subjects */
    uint32_t subject_len;
};

struct thread_forest {
    struct thread_node *nodes; /* [0] is nobody */
    uint32_t count;
    uint32_t cap;
    uint32_t *table;     /* by id: open addressing, 0 is free */
    uint32_t table_size; /* a power of two */
    uint32_t max;        /* nodes at most, dummies included */
    struct buf subjects;
    uint32_t root; /* first thread, by `next` */
};

void thread_init(struct thread_forest *f);
void thread_finish(struct thread_forest *f);

/* Builds the threads of the messages found. 0, -ENOMEM, -ENOBUFS, or the store's error. */
int thread_build(struct imap *s, enum thread_algorithm algorithm, const struct numset *found, struct thread_forest *f);

/* Writes " (1 2)(3)": what stands behind "* THREAD". Numbers are UIDs with s->is_uid. 0, -ENOMEM. */
int thread_write(struct imap *s, const struct thread_forest *f);

/* ---- between the files of this module ---- */

struct str thread_subject(const struct thread_forest *f, const struct thread_node *node);

/* Adds a node; its index, or 0 when there are too many or no memory is left. */
uint32_t thread_add(struct thread_forest *f);

/* Makes the child lists and f->root from the parents of all nodes that are in use (seq or children wanted). */
void thread_link_children(struct thread_forest *f);

/* Sorts a list of siblings by date, then sequence number (dummies by their first child); returns its new head.
 * by_arrival: by `arrival` instead. 0 with *ret_error when out of memory. */
uint32_t thread_sort_siblings(struct thread_forest *f, uint32_t head, bool by_arrival, int *ret_error);

/* Step 5 of REFERENCES: merges threads of the same base subject. */
int thread_merge_subjects(struct thread_forest *f);

#endif
