/*
 * The queue (design, section 5): messages that could not go where they are going at once. Used by smtp, sendmail and
 * relay at the same time, and by `pennypost queue`; nothing of it is resident. This header is its manual.
 *
 * Below the folder that `queue` of the configuration names (mode 0700):
 *
 *     msg/ID      the message, LF line ends, never changed again. ID is of letters and digits.
 *     new/ID      envelope (envelope.h) of an entry that no run has seen; pennypost-queue.path watches this folder only
 *     cur/ID      envelope of an entry that a run has seen. If both are there, a crash has left the other one, and this
 *                 one counts
 *     corrupt/    ID and ID.msg of what cannot be read, for the admin
 *
 * An entry exists if and only if its envelope does. The message is durable before the envelope appears, and the
 * envelope goes first: a crash between any two system calls leaves an entry, or a message without an envelope that
 * queue_sweep() removes after a day. Envelopes are replaced by rename(2), so a reader sees the old or the new one.
 *
 * Who works on an entry holds a kernel lock on its message file (F_OFD_SETLK, which works across nodes): queue_take().
 * Creating and looking need none. Errors are those of the system calls unless said otherwise; nothing is logged here.
 */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include <dirent.h>

#include "shared/base/clock.h"
#include "shared/queue/envelope.h"

#define QUEUE_ID     63    /* bytes of an id */
#define QUEUE_ORPHAN 86400 /* seconds after which a message without an envelope, or a half-written file, is removed */

struct queue {
    int msg, new, cur, corrupt;        /* folders */
    bool is_new_behind, is_cur_behind; /* something was removed there, and queue_sync() was not called since */
};

#define QUEUE_INIT      ((struct queue){.msg = -1, .new = -1, .cur = -1, .corrupt = -1})
#define _cleanup_queue_ _cleanup_(queue_close)

/* Opens the queue and makes the folders in it that are missing. -ENOENT: the folder itself is. -EPERM: it belongs to
 * somebody else than us, or others may write to it. */
int queue_open(const char *folder, struct queue *ret);
void queue_close(struct queue *q);

/* Is that an id? They come from command lines and folders. */
bool queue_id_is_valid(struct str id);

/* ---- entries ---- */

/* Makes an entry of the message in `file` (any file opened for reading; one without a name in the same file system is
 * linked, another one copied) and the envelope, under a fresh id or, if `id` is not empty, that one (-EEXIST). When it
 * returns 0 all of it is on the disk; on an error nothing of it is left. ret_id may be NULL. */
int queue_create(struct queue *q, struct clock *clock, int file, const struct queue_envelope *envelope, struct str id,
                 char ret_id[QUEUE_ID + 1]);

/* Reads the envelope without a lock: for looking. -ENOENT: no such entry (any more). -EBADMSG, -EPROTONOSUPPORT as
 * queue_envelope_parse(). *ret must be fresh. */
int queue_peek(const struct queue *q, const char *id, struct queue_envelope *ret);

/* The message of an entry for looking, O_RDONLY. */
int queue_peek_message(const struct queue *q, const char *id, int *ret_fd);

struct queue_entry {
    char id[QUEUE_ID + 1];
    int file;    /* the message, at byte 0; holds the lock. For reading only. */
    bool is_new; /* the envelope is in new/ */
    struct queue_envelope envelope;
};

#define QUEUE_ENTRY_INIT      ((struct queue_entry){.file = -1})
#define _cleanup_queue_entry_ _cleanup_(queue_release)

/* Takes an entry to work on it. -EAGAIN: somebody else is. -ENOENT: it has gone. -EBADMSG: its envelope is damaged or
 * its message is missing; both have been moved to corrupt/, tell the admin. -EPROTONOSUPPORT: another version wrote it;
 * it was left where it is. */
int queue_take(struct queue *q, const char *id, struct queue_entry *ret);

/* Gives it up as it is on the disk. A fresh entry is fine. */
void queue_release(struct queue_entry *t);

/* Writes the envelope back, durably. On an error the old one is still there, or the new one if only the last wait for
 * the disk failed. */
int queue_update(struct queue *q, const struct queue_entry *t);

/* From new/ to cur/: a run has seen it. Fine when it is there already. Durable is that it is in cur/, not that it has
 * left new/, which a power cut may undo and nobody minds. */
int queue_settle(struct queue *q, struct queue_entry *t);

/* Both in one, for half the waits for the disk: the envelope is written to cur/. On an error it may be there all the
 * same, and counts then; the old one in new/ is left for the next queue_take(). */
int queue_put_off(struct queue *q, struct queue_entry *t);

/* Back from cur/ to new/, so that a run starts for it. */
int queue_renew(struct queue *q, struct queue_entry *t);

/* Removes the entry for good, durably; release it afterwards. */
int queue_remove(struct queue *q, struct queue_entry *t);

/* The same in steps, so that many entries share one wait for the disk: queue_unlink() for each of them, queue_sync(),
 * and, if that returned 0, queue_forget() and queue_release() for each. Before queue_sync() a power cut may bring an
 * entry back; its message is there until then. */
int queue_unlink(struct queue *q, const struct queue_entry *t);
int queue_sync(struct queue *q);
int queue_forget(struct queue *q, const struct queue_entry *t);

/* ---- walking ---- */

struct queue_walk {
    DIR *dir;
    const struct queue *queue;
    bool is_cur;
    bool only_new; /* set before the first step: leave cur/ out */
};

#define _cleanup_queue_walk_ _cleanup_(queue_walk_end)

/* All ids: first those of new/, then, unless only_new, those of cur/; in no order. What comes or goes meanwhile may be
 * in it or not, and one may come twice. 0 or a negative errno. */
int queue_walk_begin(const struct queue *q, struct queue_walk *ret);

/* 1 with the next id, 0 at the end, or a negative errno. */
int queue_walk_next(struct queue_walk *w, char ret_id[QUEUE_ID + 1]);
void queue_walk_end(struct queue_walk *w);

/* Removes messages without an envelope and half-written files when they are older than QUEUE_ORPHAN. The number of
 * them, or a negative errno. */
int queue_sweep(struct queue *q, int64_t now);

#endif
