/*
 * The backend of a sandboxed session: every question goes to the monitor as a frame.
 */
#ifndef SMTP_REMOTE_H
#define SMTP_REMOTE_H

#include <stdbool.h>

#include "handlers/smtp/backend.h"
#include "shared/base/limits.h"
#include "shared/io/frame.h"

struct remote {
    int control;         /* borrowed */
    bool is_quick;       /* MAIL is hardly ever refused here: its refusal may wait for RCPT */
    struct frame sender; /* of MAIL, which is told with the first RCPT then; type 0: there is none */
};

struct smtp_backend remote_backend(struct remote *r);

struct remote_facts {
    char cipher[64]; /* "" in the clear */
    bool is_near;    /* the client is on this machine */
    bool can_xclient;
    bool wants_hello;
    bool has_atrn;
    char unwelcome[LIMIT_NOTE];      /* why the client is turned away, "" */
    char local_user[LIMIT_USER + 1]; /* who called, on a unix socket; "" */
    uint32_t local_uid;
};

/* FRAME_SMTP_FACTS_WANTED and its answer. 0 or a negative errno. */
int remote_facts(const struct remote *r, struct remote_facts *ret);

#endif
