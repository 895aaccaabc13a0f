/*
 * The delivery itself. Private to deliver.
 */
#ifndef DELIVER_DELIVER_H
#define DELIVER_DELIVER_H

#include "shared/base/conf.h"
#include "shared/gate/session.h"
#include "shared/mbox/mbox.h"

struct deliver_options {
    const char *user;    /* NULL: the invoking user */
    const char *mailbox; /* INBOX or a folder */
    const char *file;    /* append to this mbox file instead, or NULL */
    const char *command; /* hand it to this command instead, or NULL */
    bool finds_loops;    /* smtp or the queue delivers: the message is what came over the wire */
    bool serves;         /* letters come as frames on fd 0 (shared/route/postman.h) */

    /* The message: all of it in `text`, or, where that is empty, what can be read. */
    struct str text;
    int input;                        /* borrowed */
    const char *sender;               /* envelope sender, "" null path */
    const char *address;              /* envelope recipient, "" unknown */
    bool is_again;                    /* an earlier attempt may have put it there: not twice */
    bool (*is_wanted)(void *context); /* asked when the mailbox is ours, before it is written; or NULL */
    void (*tell)(void *context);      /* that it is durably in the mailbox, before deliver_message() is done; or NULL */
    void *context;
    bool has_sender;    /* `sender` was told; otherwise it may be found in front of the message: */
    char *found_sender; /* owned; NULL: it was not */
};

/* Where messages go: kept from one to the next. */
struct deliver_box {
    struct mbox_store *store;
    struct mbox_append *append; /* NULL: not begun */
};

/* Opens the place that the options name; nothing is touched yet. 0, -ENOMEM. */
int deliver_open(struct conf *conf, const struct session *s, const struct deliver_options *o, struct deliver_box *ret);
void deliver_close(struct deliver_box *b);

/* Reads the input to its end and appends it, with Return-Path and Delivered-To on top; a folder that is not there is
 * made. Unless it finds loops, another delivery program calls us, and what that put on top already is taken over. 0:
 * the message is durably in the mailbox. A negative errno: nothing is; those of mbox.h, and -EMULTIHOP for a message
 * that went through this address before. */
int deliver_message(struct deliver_box *b, struct conf *conf, const struct session *s, struct deliver_options *o);

/* The same in two steps, for several messages that are written together, durably, all or none. What one of them did
 * wrong (the errors above) leaves the others as they are; an error of the commit is everybody's. `hooks` of mbox.h. */
int deliver_add(struct deliver_box *b, struct conf *conf, const struct session *s, struct deliver_options *o);
int deliver_commit(struct deliver_box *b, const struct mbox_append_hooks *hooks);

/* Delivers one letter after another as frames on fd 0 bring them, each with its verdict, until nobody is at the other
 * end or none came for TIMEOUT_POSTMAN. With an `error` that is the verdict of the first one, and the end. The exit
 * status. */
int deliver_serve(struct conf *conf, const struct session *s, struct deliver_options *o, int error);

/* Tells that a delivery failed, or, if nobody above us does, that it succeeded. */
void deliver_log(const struct session *s, const struct deliver_options *o, int error);

/* What an errno of these functions means: "CODE ENHANCED TEXT", appended to `out`. The exit status, as in sysexits.h.
 * -ESRCH: no such user; -EKEYREJECTED: we are another one. */
int deliver_verdict(int error, struct buf *out);
#define VERDICT_MAX 256

/* Finishes or undoes what was being written to the INBOX when a process or the machine died: its journal is replayed, a
 * torn tail is cut off. The caller's caller holds the dotlock (the keeper), or nobody else runs yet (boot). Logs what
 * was done. 0 or a negative errno of mbox.h. */
int deliver_recover(struct conf *conf, const struct session *s);

/* The fields on top: Return-Path and, unless it is there, Delivered-To, with LF. 0, -EINVAL (control characters),
 * -ENOBUFS, -ENOMEM. */
int deliver_head(const struct conf *conf, const struct session *s, const struct deliver_options *o, bool is_known,
                 struct buf *out);

#endif
