/*
 * Long commands: is there still a client to work for, and what to tell him meanwhile (INPROGRESS, RFC 9585).
 */
#ifndef IMAP_PROGRESS_H
#define IMAP_PROGRESS_H

#include "handlers/imap/imap.h"

struct progress {
    struct imap *s;
    const char *doing; /* "searching" */
    uint64_t goal;     /* messages in all, 0: not to be told */
    int64_t looked;    /* when the client was last looked for, 0: never; ms */
    int64_t told;      /* when it was last told that the command goes on; ms */
};

/* To be called often, with how many messages are done. Looks for the client now and then, and gives a sign of life in a
 * long command, which also shows whether anybody is left behind a TCP connection. 0, -EPIPE, -ECANCELED (the server is
 * being stopped). */
int progress_go_on(struct progress *p, uint64_t done);

#endif
