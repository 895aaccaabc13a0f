/*
 * The inside of the store, shared by the files of shared/mbox only: one opened mailbox with its sidecars.
 *
 * Locks. BOX_READ and BOX_WRITE are those of the mbox file, which all programs know: a kernel lock (shared or
 * exclusive), BOX_WRITE also the dotlock. BOX_STATE is ours: a kernel lock on NAME.lock in the state folder, for state
 * log and index. They are taken together by box_lock(), none is waited for while another is held, and all are released
 * by box_unlock() before anything returns to a caller of the store; a dotlock that a keeper has goes a moment later.
 *
 * Who may change what: the mbox file under BOX_WRITE; state log and index under BOX_STATE; what the index says about
 * places in the file under BOX_STATE and at least BOX_READ.
 */
#ifndef MBOX_BOX_H
#define MBOX_BOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "shared/base/limits.h"
#include "shared/mbox/index.h"
#include "shared/mbox/interop.h"
#include "shared/mbox/mbox.h"

struct mbox_store {
    char *inbox;
    char *folders;
    char *state; /* NULL: none */
    uid_t owner;
    struct clock *clock;
    int keeper;
    int keeper_error; /* why it is not asked any more; 0: it is */
    bool is_locked;
    int lock_timeout;                                   /* seconds */
    bool (*is_offered)(void *context, struct str name); /* see mbox_store_offer() */
    void *context;
    bool is_delivery; /* tells nobody a UID: its part of the log becomes durable with the next that does */
    bool has_key;
    uint64_t key[2]; /* of the content hash */
    bool has_boot;   /* boot was looked for */
    uint64_t boot;   /* which start of the machine this is, 0: not known */
    bool is_dotlock_noticed, is_shadow_noticed;
    struct buf notices;
    struct mbox_store *shadow; /* shows the same mailboxes where the state cannot be used */
    struct mbox_store *parent; /* of a shadow */
    int held_state;            /* of a shadow: its state folder, locked; else -1 */
};

/* Bytes of NAME.lock, each a lock of its own. */
enum box_lock_byte {
    BOX_BYTE_STATE, /* BOX_STATE */
    BOX_BYTE_POP3,  /* the exclusive maildrop of a POP3 session */
    BOX_BYTE_TURN,  /* the first of those that say whose turn it is among deliveries, see turn.c */
};

enum box_lock_kind {
    BOX_READ = 1u << 0,
    BOX_WRITE = 1u << 1,
    BOX_STATE = 1u << 2,
};

/* ---- box ---- */

/* No record in front of `at` is one of a message that is there, in the index of that inode and generation. */
struct box_first {
    uint64_t ino, generation, at;
};

struct box {
    struct mbox_store *store;
    char *name; /* canonical: INBOX in upper case */
    char *path;
    char *side; /* path of the sidecars without suffix; NULL: no state folder */
    bool is_inbox;
    bool may_be_missing; /* INBOX, or one that is offered: no file is an empty mailbox */
    bool is_writable;
    int fd;            /* of the mbox file, -1: it does not exist */
    struct stat facts; /* of fd when it was last looked at */
    bool has_new;      /* it had changed since it was last read, when it was locked */
    bool is_peek;      /* see file_peek() */
    int lock_fd;
    int turn; /* see turn.c; 0: none */
    int log_fd;
    uint64_t log_ino;
    uint64_t log_id;
    uint64_t log_size;
    bool is_log_lazy; /* its end may not be durable */
    unsigned held;    /* enum box_lock_kind */
    bool has_dotlock;
    int dotlock_fd;      /* which one is ours, when no keeper holds it */
    int64_t touched;     /* when the dotlock was made or refreshed last */
    bool takes_torn;     /* a file that we cannot mend is shown as it is */
    uint64_t torn;       /* with -EUCLEAN: where to cut */
    bool is_own_growth;  /* nobody else can have changed the file since the index was made */
    uint64_t own_from;   /* where our last append begins */
    bool takes_unproven; /* new mail may be told before the rest of the file was looked at */
    bool is_created;     /* the file was created by us: its folder wants an fsync */
    struct box_first first;
    struct index ix;
};

/* Opens a mailbox's files. create: make an empty mbox file when it is missing. -ENOENT: no such mailbox (a missing
 * INBOX opens with fd -1). Nothing is locked. */
int box_open(struct mbox_store *s, struct str name, bool create, struct box **ret);
void box_free(struct box *b);

/* The path of a sidecar, appended to `out`. */
int box_side(const struct box *b, const char *suffix, struct buf *out);

/* ---- file.c ---- */

/* Opens an mbox file with all checks: no symlink, a regular file, one link, the right owner. */
int file_open(struct mbox_store *s, const char *path, bool *ret_writable, int *ret_fd);

/* Opens or reopens b->fd if the path names another file now; fills b->facts. */
int box_reopen(struct box *b);

/* Makes the mbox file if it is not there. */
int box_create(struct box *b);

/* fsync of the folder that holds `path`. */
int file_sync_folder(const char *path);

/* With BOX_WRITE, after writing at equal length: programs that look at size and seconds of the mtime (Dovecot, mutt)
 * must see that something changed since b->facts, however soon after. */
void file_tick(struct box *b);

/* The same, and fills b->facts, after the last write of what adds no mail: for shells and biff, which compare mtime and
 * atime, there is new mail afterwards if there was when the file was locked, or if it is not as long as we left it. */
int file_settle(struct box *b, uint64_t size);

/* After an append: it is new, even in the second of a file_settle() that has moved the times on. */
void file_renew(struct box *b);

/* Of the times of a file. */
bool file_is_before(const struct timespec *a, const struct timespec *b);

/* Peeking: what is read for our own books is not yet read by the user, and leaves the atime alone. With BOX_WRITE it is
 * so until box_unlock(). A delivery never reads for the user. */
void file_peek(struct box *b, bool is_peek);

/* Reads or writes all of it. -ENODATA: the file ends before that. Now: only if the kernel has it in memory, else
 * -EAGAIN. */
int file_read(int fd, void *data, size_t len, uint64_t offset);
int file_read_now(int fd, void *data, size_t len, uint64_t offset);
int file_write(int fd, const void *data, size_t len, uint64_t offset);

/* One write at the end of the file, wherever that is in this moment: over nothing that another program appends. Where
 * the bytes stand, and how many of them it took. */
int file_append(int fd, const void *data, size_t len, uint64_t *ret_at, size_t *ret_len);

/* Makes sure that the disk has room for these bytes; the file is longer then, if they lie behind its end. */
int file_allocate(int fd, uint64_t offset, uint64_t len);

/* ---- lock.c ---- */

/* Asks the keeper for one of FRAME_KEEPER_* and waits for what it says: 0 or the error that it met. -EPIPE: it has
 * died, now or before. -ETIMEDOUT: it does not answer; from then on -EIO. */
int store_ask_keeper(struct mbox_store *s, uint16_t type, int timeout_ms);

/* Takes these locks, all or none, within the store's lock_timeout. With BOX_READ or BOX_WRITE b->fd is the file that
 * the path names and b->facts are fresh. */
int box_lock(struct box *b, unsigned kinds);
void box_unlock(struct box *b);

/* The same for several mailboxes, each with what is wanted of it, within so many seconds. In no order: none is waited
 * for while another is held. */
struct box_want {
    struct box *b;
    unsigned kinds;
};
/* 0, or the errors of box_lock() with none of them locked. */
int box_lock_all(const struct box_want *wants, size_t count, int seconds);

/* Refreshes the dotlock during long work, where it is ours: to be called for each piece of it, it looks at the clock
 * itself. */
void box_touch(struct box *b);

/* ---- turn.c ---- */

/* Of a delivery that will want all locks: waits until few others try for them, with nothing held. Where there is no
 * state folder, or its lock was never open, or the deadline is over, it has no turn and tries without. box_unlock()
 * ends it. */
void turn_take(struct box *b, int64_t deadline);
void turn_end(struct box *b);

/* ---- log.c, log_read.c, compact.c: the state log ---- */

/* What the log says when it is read as a whole. */
struct log_message {
    uint32_t uid;
    uint8_t flags;
    bool has_hash;
    bool has_flags;
    bool is_expunged;
    uint8_t hash[16];
    uint64_t keywords;
    uint64_t modseq;
    int64_t savedate;
};

struct log_truth {
    bool is_found;   /* there is a log with a beginning */
    bool is_damaged; /* some of it was unreadable */
    uint32_t uidvalidity;
    uint32_t uidnext;
    uint32_t recent;
    uint64_t modseq;
    uint64_t floor; /* expunge history reaches back to this MODSEQ */
    uint8_t mailboxid[16];
    uint64_t id;
    uint64_t size;
    char keywords[LIMIT_KEYWORDS][INDEX_KEYWORD_SIZE];
    struct log_message *messages; /* ascending UIDs */
    size_t sorted;                /* while it is being read: so many do ascend */
    size_t count;
    size_t cap;
};

/* Opens (or reopens) the log file if there is one. */
int log_attach(struct box *b);

/* Reads all of it. */
int log_read(struct box *b, struct log_truth *ret);
void log_truth_finish(struct log_truth *t);

/* The entry of a UID, NULL: none. */
struct log_message *log_truth_find(const struct log_truth *t, uint32_t uid);

/* Records are gathered in a buffer and written together. */
int log_put_base(struct buf *out, const struct index_header *h, uint64_t floor);
int log_put_keyword(struct buf *out, unsigned n, const char *name);
int log_put_next(struct buf *out, uint32_t uidnext, uint64_t modseq);
int log_put_message(struct buf *out, const struct index_record *rec);
struct log_flags {
    uint32_t system;
    uint64_t keywords;
    uint32_t changed; /* log_changed(), see log_read.h */
};
/* New flags of these messages, and which of them an operation meant. 0, or what buf_add() answers. */
int log_put_flags(struct buf *out, uint64_t modseq, const struct log_flags *flags, const struct numset *uids);
int log_put_expunged(struct buf *out, uint64_t modseq, const struct numset *uids);
int log_put_flushed(struct buf *out, const struct numset *uids);

/* Room for what is to be committed later, where the file system can: what cannot be told must not be done. */
int log_reserve(struct box *b, const struct buf *records);

/* Appends what was gathered; with `sync` it is durable afterwards. Keeps b->ix.next in step. */
int log_commit(struct box *b, const struct buf *records, bool sync);

/* Starts a new log with these records in the place of the old one, durably. */
int log_replace(struct box *b, const struct buf *records);

/* Applies records behind `from` to the index (a process died between log and index). -EBADMSG: rebuild the index. */
int log_apply(struct box *b, uint64_t from);

/* UIDs expunged with a MODSEQ above `since`. */
int log_vanished(struct box *b, uint64_t since, struct numset *ret_uids, bool *ret_complete);

/* touched.c: adds to ret_touched those of the UIDs for which the log does not show that none of these flags has changed
 * since a MODSEQ. The UIDs are of messages that changed since. */
int log_touched(struct box *b, uint64_t since, uint32_t system, uint64_t keywords, const struct numset *uids,
                struct numset *ret_touched);

/* Rewrites the log when most of it is history. */
int log_compact(struct box *b);

/* ---- sync.c ---- */

/* With BOX_READ or BOX_WRITE and BOX_STATE: brings the index up to date with the file. -EUCLEAN: it ends in the middle
 * of an append of ours, from b->torn on. */
int box_sync(struct box *b);

/* box_sync() after an append of ours, b->is_own_growth, under the locks under which the index was brought up to date.
 */
int box_sync_own(struct box *b);

/* Tells the index that the file as it is now is what it describes: we wrote to it, at equal length, what changes
 * nothing of the messages. */
int box_describe(struct box *b);

/* box_sync() when only BOX_STATE is held: -EAGAIN when the file would have to be read. */
int box_sync_cheap(struct box *b);

/* Takes BOX_STATE, and what it needs more, so that the index is up to date. On success BOX_STATE (and `more`) is
 * held. */
int box_lock_synced(struct box *b, unsigned more);

/* Numbers that mail written by others may take: what a stranger sends must leave some for the user. */
#define KEYWORDS_FOREIGN (LIMIT_KEYWORDS * 3 / 4)

/* The bits of these keyword names (blanks between); unknown ones get a number below `most`, and an entry in `log`,
 * while there are any left. What is no atom is left out. */
int keyword_bits(char keywords[][INDEX_KEYWORD_SIZE], int most, struct str names, struct buf *log, uint64_t *ret);

/* ---- names.c ---- */

/* The canonical name, the path and the sidecar base (NULL without state) of a mailbox. Freed by the caller. */
int name_resolve(struct mbox_store *s, struct str name, char **ret_name, char **ret_path, char **ret_side);

/* ---- shadow.c ---- */

/* The store that shows a mailbox although its own failed with `error`, or NULL; and a notice of whether it could. */
struct mbox_store *store_shadow(struct mbox_store *s, struct str name, int error);
void store_shadow_notice(struct mbox_store *s, struct str name, int error, bool is_shown);

/* A UIDVALIDITY that no other store gives. */
int store_shadow_validity(uint32_t *ret);

/* Removes the folder of a shadow. */
void store_remove_shadow(struct mbox_store *s);

/* ---- store.c ---- */

/* Adds a line for the admin to the notices of the store. 0 or a negative errno. */
int store_notice(struct mbox_store *s, const char *format, ...) _printf_(2, 3);

/* Makes the state folder and the key when needed. */
int store_prepare(struct mbox_store *s);

/* A UIDVALIDITY that was never given before. */
int store_uidvalidity(struct mbox_store *s, uint32_t *ret);
/* Is it INBOX, or one that is offered? */
bool store_may_be_missing(const struct mbox_store *s, struct str name);

/* ---- reserve.c ---- */

/* Keeps some room of the disk for what follows, if there is plenty. */
void store_keep_reserve(struct mbox_store *s);

/* After an error: gives room that was kept back to the file system, for opening a mailbox or (frees) for removing
 * messages. True: the same is worth another try. */
bool store_use_reserve(struct mbox_store *s, int error, bool frees);

/* An identity for a mailbox (RFC 8474 5.1) that was never given before; under --epoch it depends on clock and name. */
int store_mailboxid(struct mbox_store *s, const char *name, uint8_t ret[16]);

#endif
