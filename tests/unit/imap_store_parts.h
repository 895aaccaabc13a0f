/*
 * Inside the store in memory: what imap_store.c and imap_store_boxes.c share.
 */
#ifndef TESTS_IMAP_STORE_PARTS_H
#define TESTS_IMAP_STORE_PARTS_H

#include <stdlib.h>

#include "shared/mbox/mbox.h"

#define BOXES    64u
#define MESSAGES 4096u

struct message_data {
    struct mbox_info info;
    char *bytes;
    size_t len;
    char *cache[MBOX_CACHE_KINDS];
    size_t cache_len[MBOX_CACHE_KINDS];
};

struct box_data {
    char *name; /* NULL: free */
    bool is_directory;
    bool is_subscribed;
    uint32_t uidvalidity;
    uint32_t uidnext;
    uint64_t modseq;
    struct message_data *messages[MESSAGES];
    uint32_t count;
    char *keywords[64];
    struct numset gone;
    uint32_t number;
};

struct mbox_store {
    struct box_data boxes[BOXES];
    struct mbox *views;
    uint32_t serial;
    struct clock *clock;
};

struct shown {
    struct message_data *message;
    uint32_t uid;
    uint64_t modseq; /* told */
    bool is_gone;
};

struct mbox {
    struct mbox_store *store;
    struct box_data *data;
    bool is_readonly;
    struct shown rows[MESSAGES];
    uint32_t count;
    struct mbox *next;
};

struct mbox_stream {
    struct message_data *message;
    uint64_t at;
    unsigned pieces;
};

struct mbox_append {
    struct mbox_store *store;
    struct box_data *to;
    struct message_data *messages[64];
    struct str_list {
        char *names[64];
        size_t count;
    } keywords[64];
    unsigned count;
};

/* The one that was made last. */
extern struct mbox_store *imap_store_only;

/* The mailbox of that name, or NULL. */
struct box_data *imap_store_find(struct mbox_store *s, struct str name);

/* Adds a message at the end. */
struct message_data *imap_store_put(struct mbox_store *s, struct box_data *d, const char *bytes, size_t len);

/* Takes the message with that UID out; views keep its number. */
void imap_store_take_out(struct mbox_store *s, struct box_data *d, uint32_t uid);

/* mbox_poll(), while nobody does anything to the box. */
int imap_store_poll(struct mbox *b, bool keep_expunged, const struct mbox_changes *changes);

void imap_store_free_message(struct message_data *m);
void imap_store_clear(struct box_data *b);
int imap_store_keyword(struct box_data *d, struct str name, bool create, unsigned *ret);

#endif
