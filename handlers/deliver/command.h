/*
 * Delivery to a command (aliases(5), .forward): the message on its standard input, its exit status as the verdict.
 */
#ifndef DELIVER_COMMAND_H
#define DELIVER_COMMAND_H

#include "handlers/deliver/deliver.h"

#define COMMAND_OUTPUT 300 /* bytes of what the command says that are kept for the reply */

struct command_result {
    int status;        /* exit status as sysexits has it; EX_TEMPFAIL when it was killed or never ran */
    struct buf output; /* the first line it wrote, printable */
};

/* Runs `/bin/sh -c command` as the user that this process is, with `head` and then fd 0 on its standard input, a fresh
 * environment, and TIMEOUT_COMMAND to finish. 0 with the result, or a negative errno when it could not be started. */
int command_run(const struct session *s, const struct deliver_options *o, struct str head, struct command_result *ret);

#endif
