/*
 * Layout of a journal file. Internal to journal.c and journal_replay.c.
 */
#ifndef MBOX_JOURNAL_FILE_H
#define MBOX_JOURNAL_FILE_H

#include "shared/mbox/journal.h"

#define JOURNAL_MAGIC  0x334c4e4a534e4550u
#define JOURNAL_EDGE   512u         /* bytes that are checked to know the file again */
#define JOURNAL_WINDOW (16u << 20)  /* bytes that go through the journal in one step, where there is room */
#define JOURNAL_WIDE   (4u << 20)   /* fewer, when they make the gap behind them so wide */
#define JOURNAL_TIGHT  (64u << 10)  /* at least */
#define JOURNAL_STEPS  4096u        /* with smaller windows: more steps would take too long */
#define JOURNAL_DIRECT (1u << 20)   /* a gap of this size, or of a window, is crossed without it */
#define JOURNAL_COPY   (256u << 10) /* buffer */
#define JOURNAL_ALIGN  4096u
#define JOURNAL_CLEAR  (64u << 10) /* more than a block: its rest is cleared before the file is cut in it */

enum journal_kind { JOURNAL_MOVE = 1, JOURNAL_PATCH, JOURNAL_GROW, JOURNAL_COLLAPSE };

struct journal_head {
    uint64_t magic;
    uint32_t kind;
    uint32_t block; /* of a collapse: the block size; of a move: the size of a window */
    uint64_t dev;
    uint64_t ino;
    uint64_t start;
    uint64_t old_size;
    uint64_t new_size;
    uint64_t count;    /* pieces or holes, right behind the head */
    uint64_t literals; /* bytes, behind the pieces */
    uint64_t slots;    /* place of the two progress slots */
    uint64_t windows;  /* place of the two windows */
    uint64_t before;   /* checksum of the bytes in front of start */
    uint32_t gap_len;
    uint32_t tail_len;
    uint8_t gap[JOURNAL_EDGE];  /* the old bytes from new_size on: the nonce goes over the first of them */
    uint8_t tail[JOURNAL_EDGE]; /* the last bytes of the old file, behind the nonce */
    uint8_t nonce[JOURNAL_NONCE];
    uint64_t body; /* checksum of pieces and literals */
    uint64_t check;
};

struct journal_slot {
    uint64_t sequence;  /* from 1 */
    uint64_t at;        /* everything before it is done and durable */
    uint64_t len;       /* of the window being written */
    uint64_t is_direct; /* its content comes from the file, not from the journal */
    uint64_t content;   /* checksum of the window in the journal */
    uint64_t next;      /* checksum of the old bytes that come behind the window */
    uint64_t check;
};

struct journal {
    struct box *b;
    int fd;
    struct journal_head head;
    struct journal_plan plan;
    uint64_t sequence;
    struct journal_slot slot;        /* of the window that is being written */
    bool takes_place;                /* of the journal that is there */
    bool is_ready;                   /* slot is durable: the first one is so together with the journal */
    bool is_marked;                  /* JOURNAL_COLLAPSE: the file is a byte longer meanwhile */
    uint8_t *copy;                   /* JOURNAL_COPY */
    struct journal_hole *holes;      /* JOURNAL_COLLAPSE: head.count of them; the literals are those of the plan */
    const struct journal_cuts *cuts; /* where they came from, while the journal is written */
};

/* The checksums that head and slot have to carry. */
uint64_t journal_head_check(const struct journal_head *h);
uint64_t journal_slot_check(const struct journal_slot *slot);

/* The piece that makes output byte `at`. */
size_t journal_piece_at(const struct journal_plan *plan, uint64_t at);

/* How far everything from output place `at` on moves at least: the more is taken out, the farther what follows. (The
 * way to the next source is longer in front of a literal than behind it.) */
uint64_t journal_least_gap(const struct journal_plan *plan, uint64_t at);

/* Place in the old file of the first byte that output from `at` on still needs. */
uint64_t journal_source(const struct journal_plan *plan, uint64_t at);

/* May the window come from where the nonce goes, or from what is cleared when the file is cut? */
bool journal_is_cut_into(const struct journal *j, const struct journal_slot *slot);

/* Checksum of up to JOURNAL_EDGE bytes of the mbox file at `offset`, ending before `end`. */
int journal_edge(struct journal *j, uint64_t offset, uint64_t end, uint64_t *ret);

/* Where the bytes that head.tail holds begin. */
uint64_t journal_tail(const struct journal_head *h);

/* Checksum of the content of a window in the journal. */
int journal_window_sum(struct journal *j, const struct journal_slot *slot, uint64_t *ret);

/* Carries out the plan from output place `at`. */
int journal_fill(struct journal *j, uint64_t at);

/* The same, and cuts the file. */
int journal_move(struct journal *j, uint64_t at);

/* Writes the window `slot` into the mbox file. */
int journal_window(struct journal *j, const struct journal_slot *slot);

/* Fills head and body and makes the file durable, in the place of the one that is there if it takes_place. -EBUSY:
 * there is one, and what it says is not done yet. */
int journal_write(struct journal *j);

/* Writes all literals of the plan to their places, durably. 0 or a negative errno. */
int journal_patch_all(struct journal *j);

/* Output bytes of the plan as they will be; `len` at most JOURNAL_COPY. */
int journal_output(struct journal *j, uint64_t at, uint8_t *data, size_t len);

/* Is what stands in front of head.start as it was? */
bool journal_has_front(struct journal *j);

/* As journal_write(), with a body of its own that `store` writes. */
int journal_write_with(struct journal *j, int (*store)(struct journal *j));

/* The journal durably, what it says durably, and no journal. */
int journal_carry_out(struct box *b, const struct journal_plan *plan, enum journal_kind kind);

/* Finishes a JOURNAL_PATCH. -ESTALE: the file was rewritten by somebody else. */
int journal_finish_patch(struct journal *j);

/* Finishes a JOURNAL_GROW. -ESTALE: the file was rewritten by somebody else. */
int journal_finish_grow(struct journal *j);

/* Finishes a JOURNAL_COLLAPSE, or takes back one that was given up. -ESTALE as above. */
int journal_finish_collapse(struct journal *j);

/* A plan carried out under a journal of its own, which takes the place of the one that is there and is removed.
 * *ret_begun: it is in place, so that a failure is mended by its replay. */
int journal_move_instead(struct journal *j, const struct journal_plan *plan, bool *ret_begun);

/* With everything moved and nothing cut: what was appended behind the old end, by somebody who did not wait for us or
 * after a crash, moves down in front of the cut. A journal of its own, which takes the place of this one. */
int journal_move_arrived(struct journal *j, uint64_t size);

/* Removes the journal, durably. */
int journal_remove(struct box *b);

/* The same when what it says is done: it is made void, durably, which costs less than to make its removal durable. One
 * that came back would undo what was written since. */
int journal_end(struct journal *j);

#endif
