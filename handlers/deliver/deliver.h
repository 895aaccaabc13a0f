/*
 * The delivery itself. Private to deliver.
 */
#ifndef DELIVER_DELIVER_H
#define DELIVER_DELIVER_H

#include "shared/base/conf.h"
#include "shared/gate/session.h"

struct deliver_options {
    const char *user;    /* NULL: the invoking user */
    const char *sender;  /* envelope sender, "" null path */
    const char *address; /* envelope recipient, "" unknown */
    const char *mailbox; /* INBOX or a folder */
    const char *file;    /* append to this mbox file instead, or NULL */
    const char *command; /* hand it to this command instead, or NULL */
    bool is_again;       /* an earlier attempt may have put it there: not twice */
    bool has_sender;     /* `sender` was told; otherwise it may be found in front of the message: */
    char *found_sender;  /* owned; NULL: it was not */
    bool finds_loops;    /* smtp or the queue delivers: the message is what came over the wire */
};

/* Reads fd 0 to its end and appends it, with Return-Path and Delivered-To on top; a folder that is not there is made.
 * Unless it finds loops, another delivery program calls us, and what that put on top already is taken over. 0: the
 * message is durably in the mailbox. A negative errno: nothing is; those of mbox.h, and -EMULTIHOP for a message that
 * went through this address before. */
int deliver_message(struct conf *conf, const struct session *s, struct deliver_options *o);

/* Finishes or undoes what was being written to the INBOX when a process or the machine died: its journal is replayed, a
 * torn tail is cut off. The caller's caller holds the dotlock (the keeper), or nobody else runs yet (boot). Logs what
 * was done. 0 or a negative errno of mbox.h. */
int deliver_recover(struct conf *conf, const struct session *s);

/* The fields on top: Return-Path and, unless it is there, Delivered-To, with LF. 0, -EINVAL (control characters),
 * -ENOBUFS, -ENOMEM. */
int deliver_head(const struct conf *conf, const struct session *s, const struct deliver_options *o, bool is_known,
                 struct buf *out);

#endif
