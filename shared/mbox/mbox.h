/*
 * The mailbox store: mbox files shared with every other program of the system, made concurrent and crash-safe.
 *
 * It knows no protocol. A `mbox_store` is one user's set of mailboxes (INBOX is the spool file, the others are files in
 * the folders directory), a `mbox` is one session's view of one of them. It does not log and does not exit; it may
 * block on a lock for at most the store's lock_timeout, and it never holds a lock when it returns.
 *
 * View. Messages are numbered 1 to mbox_count() in a view, and that numbering changes only in mbox_poll(). A view sees
 * its own changes at once. mbox_poll() tells those of others; their flags may show in mbox_info() before it.
 *
 * Bytes. A message is read in wire form: CRLF line ends, without From_ line, without the interop headers the store
 * keeps in it (Status, X-Status, X-Keywords, X-UID, X-IMAP, X-IMAPbase and the marker of our own appends) and those
 * that mutt puts into what it rewrites (Content-Length, Lines), with mboxrd quoting undone if we wrote it. Sizes are
 * those of the wire form. It is the same bytes for ever.
 *
 * Errors are negative errnos:
 *   -ENOENT        no such mailbox or message
 *   -EEXIST        the mailbox exists already
 *   -EINVAL        bad name or argument
 *   -EBADMSG       the file is not an mbox: it is never touched (admin: pennypost mbox repair)
 *   -ELOOP, -EPERM symlink, FIFO, device, hard link, or somebody else's file
 *   -EAGAIN        locked by another program for longer than lock_timeout
 *   -EBUSY         another POP3 session holds the maildrop (MBOX_OPEN_POP3 only)
 *   -ESTALE        the message or the mailbox is no longer there, or changed identity (UIDVALIDITY)
 *   -EROFS, -EACCES read-only file system, view or permissions
 *   -ENOSPC, -EDQUOT, -EFBIG full; nothing was changed
 *   -EIO, -ENOMEM  as always
 */
#ifndef MBOX_MBOX_H
#define MBOX_MBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/base/buf.h"
#include "shared/base/clock.h"
#include "shared/base/numset.h"
#include "shared/base/str.h"

/* ---- store ---- */

struct mbox_store;

struct mbox_store_options {
    const char *inbox;   /* path of the INBOX file; it may not exist yet */
    const char *folders; /* directory of the other mailboxes; may not exist yet; NULL: none */
    const char *state;   /* directory of the sidecars, made 0700 when needed; NULL or unusable: mailboxes take mail, and
                            open read-only with UIDs of this store's own under a UIDVALIDITY that is never repeated */
    uid_t owner;         /* whose files these must be */
    struct clock *clock; /* borrowed */
    int keeper;          /* control fd to a keeper that answers FRAME_KEEPER_* for INBOX, or -1; borrowed */
    bool is_locked;      /* somebody holds INBOX's dotlock on our behalf: recovery while a keeper waits, or at boot */
    int lock_timeout;    /* seconds; 0: TIMEOUT_LOCK */
    bool is_delivery;    /* appends only, and tells nobody what UIDs it has given: a sync less for each */
};

/* Opens the store; touches no file yet. Strings are copied. Freed by mbox_store_free() after all its views. */
int mbox_store_new(const struct mbox_store_options *options, struct mbox_store **ret);
void mbox_store_free(struct mbox_store *s);

/* For programs that read mailboxes, once: an index that somebody cuts while it is mapped, or a disk that cannot read
 * it, is SIGBUS. From now on what is missing reads as zeros, which the store takes for damage (-EIO, -ESTALE). The mbox
 * files themselves are never mapped. */
int mbox_guard(void);

/* Names the mailboxes that are there for the user before their file is: like INBOX they open as empty ones, with an
 * identity that stays, and the first message makes the file. The context is borrowed. */
void mbox_store_offer(struct mbox_store *s, bool (*is_offered)(void *context, struct str name), void *context);

/* Appends what the admin should know (a dotlock that could not be made, an index rebuilt, a journal replayed, UIDs
 * renumbered) as lines of text and forgets it: the caller logs them. */
int mbox_store_notices(struct mbox_store *s, struct buf *out);

/* ---- looking at what is kept about a mailbox ---- */

struct mbox_inspection {
    bool has_state;
    bool is_state_damaged; /* at the next opening UIDs are those of the box's own headers, or all are new */
    uint32_t uidvalidity;  /* as the state log has them */
    uint32_t uidnext;
    uint64_t highestmodseq;
    bool has_index;
    bool is_index_whole;   /* else it is made anew at the next opening, and nothing is lost */
    bool is_index_current; /* it describes the file as it is; else the difference is read at the next opening */
    uint64_t messages;     /* of a whole index */
    bool has_journal;      /* an interrupted change, finished at the next opening */
    bool has_odd_journal;  /* one that did not fit any more, kept */
    bool has_torn;         /* what was cut off as the unfinished end of an append, kept */
};

/* Takes no lock and changes nothing; what a session does meanwhile may show. */
int mbox_inspect(struct mbox_store *s, struct str name, struct mbox_inspection *ret);

/* Appends the name of the mailbox that is this file. -ENOENT: none of this store's. */
int mbox_name_of(struct mbox_store *s, const char *path, struct buf *out);

/* ---- flags ---- */

enum mbox_flag {
    MBOX_SEEN = 1u << 0,
    MBOX_ANSWERED = 1u << 1,
    MBOX_FLAGGED = 1u << 2,
    MBOX_DELETED = 1u << 3,
    MBOX_DRAFT = 1u << 4,
};

struct mbox_flags {
    uint32_t system;   /* bits of enum mbox_flag */
    uint64_t keywords; /* bit n: keyword number n of this mailbox */
};

/* ---- view ---- */

struct mbox;

enum mbox_open_flag {
    MBOX_OPEN_READONLY = 1u << 0, /* EXAMINE: nothing is changed, \Recent is not consumed */
    MBOX_OPEN_POP3 = 1u << 1,     /* RFC 1939 exclusive maildrop among POP3 sessions; others go on; an unusable state
                                     folder is an error, since UIDLs have to last */
};

struct mbox_status {
    uint32_t uidvalidity;
    uint32_t uidnext;
    uint64_t highestmodseq; /* 0 from mbox_status(): it keeps none, its state cannot be used */
    uint32_t messages;
    uint32_t unseen;
    uint32_t recent;
    uint32_t deleted;
    uint64_t size;         /* sum of the wire sizes */
    uint64_t deleted_size; /* of those that are \Deleted */
    uint32_t first_unseen; /* sequence number, 0: none */
    uint8_t mailboxid[16]; /* RFC 8474: stays over RENAME, never repeats */
};

struct mbox_info {
    uint32_t uid;
    struct mbox_flags flags;
    bool is_recent;   /* this view is the first to see it (RFC 3501 2.3.2) */
    bool is_expunged; /* gone, but mbox_poll() has not been allowed to say so yet */
    bool has_8bit;    /* its header has bytes above 127 */
    uint64_t modseq;
    uint64_t size;               /* octets in wire form: RFC822.SIZE */
    int64_t internaldate;        /* seconds since 1970 */
    int16_t internaldate_offset; /* minutes from UTC to print it with */
    int64_t savedate;            /* when it came into this mailbox (RFC 8514), 0: unknown */
    uint8_t hash[16];            /* content hash: identity over mailboxes */
};

/* Opens a view of a mailbox (UTF-8 name; INBOX in any case). A missing INBOX opens as an empty mailbox, and so does one
 * that is offered. -ENODEV: the folder in which INBOX belongs is not there. */
int mbox_open(struct mbox_store *s, struct str name, unsigned flags, struct mbox **ret);

/* Ends the view; flags not yet in the file are written there unless others still hold it back. NULL is fine.
 * The result tells whether that flush worked; the state log has them in any case. */
int mbox_close(struct mbox *b);

/* Gives the exclusive place of MBOX_OPEN_POP3 up: another session may open the maildrop now, though mbox_close(), which
 * may have flags to write, is still to come. */
void mbox_leave(struct mbox *b);

/* Writes pending flags into the mbox file now (IMAP CHECK). */
int mbox_flush(struct mbox *b);

/* Opened read-only, or shown so because it cannot be changed. */
bool mbox_is_readonly(const struct mbox *b);

/* Will the UIDs be the same in the next view? Not where the state folder cannot be used. */
bool mbox_uids_last(const struct mbox *b);

/* The name it was opened by; lives as long as the view. */
struct str mbox_name(const struct mbox *b);
uint32_t mbox_count(const struct mbox *b);

/* Facts of the view's mailbox as of the last mbox_poll(): HIGHESTMODSEQ and UIDNEXT promise nothing that it has not
 * told. */
int mbox_view_status(struct mbox *b, struct mbox_status *ret);

/* Facts of a mailbox without a view (STATUS); does not consume \Recent. */
int mbox_status(struct mbox_store *s, struct str name, struct mbox_status *ret);

/* Does the view still count a message that is gone (is_expunged)? O(1) unless messages came since the last poll. */
bool mbox_holds_expunged(const struct mbox *b);

/* Message `seq` of the view. -EINVAL: no such number. O(1). */
int mbox_info(struct mbox *b, uint32_t seq, struct mbox_info *ret);

/* The sequence number of a UID, 0: not in the view. O(log n). */
uint32_t mbox_seq(struct mbox *b, uint32_t uid);

/* The first sequence number whose UID is >= uid; mbox_count()+1 if there is none. */
uint32_t mbox_seq_from(struct mbox *b, uint32_t uid);

/* Adds the UIDs of messages `first` to `last`, whatever has become of them meanwhile. 0, -EINVAL (no such numbers), or
 * what numset_add() or mbox_info() answers. */
int mbox_uids(struct mbox *b, uint32_t first, uint32_t last, struct numset *ret);

/* Keywords: number n's name (empty view: unused); a name's number, made new when `create` (-ENOSPC: 64 are in use). */
struct str mbox_keyword(struct mbox *b, unsigned n);
int mbox_keyword_number(struct mbox *b, struct str name, bool create, unsigned *ret);

/* ---- changes ---- */

struct mbox_changes {
    void *context;
    /* Called in this order; any may be NULL. A non-zero return ends the poll and is returned. */
    int (*expunged)(void *context, uint32_t seq,
                    uint32_t uid);                 /* numbers as IMAP counts: each shifts those behind it */
    int (*flags)(void *context, uint32_t seq);     /* changed by somebody else */
    int (*arrived)(void *context, uint32_t count); /* new mbox_count() */
};

/* Brings the view up to date. With keep_expunged, messages that vanished keep their numbers (is_expunged) until a poll
 * without it (RFC 9051 7.5.1: no EXPUNGE during FETCH, STORE, SEARCH). -ESTALE: reopen it. */
int mbox_poll(struct mbox *b, bool keep_expunged, const struct mbox_changes *changes);

/* An fd that becomes readable when something may have changed (inotify), or -1. In any case poll at least every
 * mbox_watch_interval() milliseconds: that is less than a second where the fd does not tell everything (no inotify, a
 * file system that other hosts write to), or while mail was told that came before the rest of the file could be looked
 * at. Owned by the view. mbox_poll() drains it. */
int mbox_watch_fd(struct mbox *b);
int mbox_watch_interval(struct mbox *b);

/* UIDs expunged since a MODSEQ, for QRESYNC (RFC 7162). *ret_complete false: history does not reach back that far. */
int mbox_vanished(struct mbox *b, uint64_t since_modseq, struct numset *ret_uids, bool *ret_complete);

/* ---- reading ---- */

struct mbox_stream;

/* Starts reading message `seq` at byte 0 of its wire form. Ends with mbox_stream_free(), before the view does. No lock
 * is kept. */
int mbox_stream_new(struct mbox *b, uint32_t seq, struct mbox_stream **ret);
void mbox_stream_free(struct mbox_stream *m);

/* At byte 0: only the header is wanted. The next piece then ends with it if that costs nothing, since what follows
 * would be converted in vain. */
void mbox_stream_want_header(struct mbox_stream *m);

/* The next piece, good until the next call; an empty view is the end, reached after exactly mbox_info.size bytes.
 * -ESTALE: the message is gone in the middle (close the connection rather than send other bytes). */
int mbox_stream_next(struct mbox_stream *m, struct str *ret_bytes);

/* Goes to byte `offset` of the wire form, forward or back. */
int mbox_stream_seek(struct mbox_stream *m, uint64_t offset);

/* ---- cache: what a protocol computed from a message, kept with the index; losing it costs time only ---- */

enum mbox_cache_kind {
    MBOX_CACHE_ENVELOPE,
    MBOX_CACHE_STRUCTURE,
    MBOX_CACHE_HEADERS,
    MBOX_CACHE_PREVIEW,
    MBOX_CACHE_THREAD,
    MBOX_CACHE_KINDS,
};

/* The cached bytes as a view that is good until the next call on this mailbox, or -ENOENT. */
int mbox_cache_get(struct mbox *b, uint32_t seq, enum mbox_cache_kind kind, struct str *ret);

/* Remembers bytes; written in batches, never synced. A failure may be ignored. */
int mbox_cache_put(struct mbox *b, uint32_t seq, enum mbox_cache_kind kind, struct str bytes);

/* ---- changing ---- */

enum mbox_flags_mode { MBOX_FLAGS_SET, MBOX_FLAGS_ADD, MBOX_FLAGS_REMOVE };

/* Changes the flags of the messages with these UIDs; durable when it returns 0. Messages whose MODSEQ is above
 * `unchanged_since` (UINT64_MAX: no condition) are left alone and added to ret_modified (may be NULL); UIDs that no
 * longer exist are skipped. */
int mbox_set_flags(struct mbox *b, const struct numset *uids, enum mbox_flags_mode mode, struct mbox_flags flags,
                   uint64_t unchanged_since, struct numset *ret_modified);

/* Removes the messages that are \Deleted and, if uids is not NULL, in uids. Durable when it returns 0. The view still
 * numbers them until the next mbox_poll(). ret_uids (may be NULL) gets what was removed. */
int mbox_expunge(struct mbox *b, const struct numset *uids, struct numset *ret_uids);

/* The same for the given UIDs whether \Deleted or not (POP3 QUIT). */
int mbox_remove(struct mbox *b, const struct numset *uids, struct numset *ret_uids);

/* Copies messages to the end of another mailbox, all or none of those that are there, durable; `move` also removes them
 * here, so that at every moment each is at least in one of both. -ENOENT: no such destination. The two sets pair up in
 * ascending order. */
int mbox_copy(struct mbox *b, const struct numset *uids, struct str destination, bool move, struct numset *ret_from,
              struct numset *ret_to, uint32_t *ret_uidvalidity);

/* ---- appending ---- */

struct mbox_append;

struct mbox_append_options {
    struct str sender;       /* for the From_ line; empty: MAILER-DAEMON */
    struct mbox_flags flags; /* system bits; keywords by name below */
    const struct str *keywords;
    size_t keyword_count;
    int64_t internaldate; /* 0: now; before 1970 there is only its first second */
    int16_t internaldate_offset;
    uint64_t size_max; /* 0: LIMIT_MESSAGE_SIZE */
    /* Of an append of one message: it may be there from an attempt whose end nobody saw. If it is, byte for byte and
     * not too far from the end, the commit succeeds, durably, and appends nothing; its UID is then told as 0. */
    bool is_again;
};

/* Starts an append of one or more messages to a mailbox (-ENOENT: there is none). Nothing is locked and nothing is
 * visible before the commit. Works without state directory (delivery to a user whose home is away): then UIDs are
 * given later. */
int mbox_append_new(struct mbox_store *s, struct str name, struct mbox_append **ret);
void mbox_append_free(struct mbox_append *a);

/* Begins the next message, then its bytes in wire form or with LF, in any pieces. Held in memory up to a limit, then in
 * an unnamed file. -EFBIG over options.size_max. */
int mbox_append_message(struct mbox_append *a, const struct mbox_append_options *options);
int mbox_append_write(struct mbox_append *a, const void *data, size_t len);

/* Forgets the message that was begun last; those before it stay. */
void mbox_append_drop(struct mbox_append *a);

/* Locks, writes all messages, fsyncs, unlocks. All or none. The UIDs are ret_first_uid and up (0: not yet known). What
 * was gathered is forgotten in any case, and the next message begins another append to the same mailbox, whose files
 * stay open, with nothing locked, until mbox_append_free(). */
int mbox_append_commit(struct mbox_append *a, uint32_t *ret_uidvalidity, uint32_t *ret_first_uid);

/* Called within a commit, with everything locked: they must not wait for anybody. */
struct mbox_append_hooks {
    /* Before anything is written, after a copy was looked for and not found; may be NULL. What is not 0 is what the
     * commit returns, and nothing is written. */
    int (*may)(void *context);

    /* As soon as everything is durably in the mailbox: that commit will succeed, what is left to do is the store's own
     * business. May be NULL. */
    void (*tell)(void *context);
    void *context;
};

/* From the next commit on. */
void mbox_append_hook(struct mbox_append *a, const struct mbox_append_hooks *hooks);

/* ---- folders ---- */

enum mbox_entry_flag {
    MBOX_ENTRY_NOSELECT = 1u << 0, /* a directory only */
    MBOX_ENTRY_HAS_CHILDREN = 1u << 1,
    MBOX_ENTRY_SUBSCRIBED = 1u << 2,
    MBOX_ENTRY_MISSING = 1u << 3, /* not there; it, or a name below it, is subscribed */
    MBOX_ENTRY_MARKED = 1u << 4,
};

/* Calls visit for every mailbox and parent, INBOX first, in order of their names with "/" between the levels.
 * A non-zero return of visit ends it and is returned. */
int mbox_list(struct mbox_store *s, int (*visit)(void *context, struct str name, unsigned flags), void *context);

/* Makes an empty mailbox, with the parents that are missing, durably. 0, -EEXIST, an error of the name or the disk. */
int mbox_create(struct mbox_store *s, struct str name);
int mbox_delete(struct mbox_store *s, struct str name); /* -ENOTEMPTY: has children and was a directory only */

/* Renames a mailbox with its children. INBOX: its messages move to the new mailbox, INBOX stays, empty (RFC
 * 9051 6.3.6). */
int mbox_rename(struct mbox_store *s, struct str from, struct str to);
int mbox_subscribe(struct mbox_store *s, struct str name, bool subscribed);

/* 0, or -EINVAL when the store could not have such a mailbox: "..", empty level, NUL, control characters, not UTF-8,
 * a reserved suffix, too long, too deep. */
int mbox_name_check(struct str name);

#endif
