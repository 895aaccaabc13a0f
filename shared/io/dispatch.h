/*
 * Command tables. A command is one row {name, states, flags, run}; the driver of each protocol looks it up here, then
 * calls run and answers. Names are matched without regard to case. A command that is not allowed in the current state
 * is never reached, by construction.
 */
#ifndef IO_DISPATCH_H
#define IO_DISPATCH_H

#include <stddef.h>
#include <stdint.h>

#include "shared/base/str.h"

struct command {
    const char *name;
    uint32_t states; /* bits of the protocol's state enum: 1u << STATE */
    uint32_t flags;  /* the protocol's own */
    int (*run)(void *session, struct str arguments);
};

/* Finds the row. -ENOENT: no such command. -EPERM: not in this state (ret_command is set all the same). */
int command_find(const struct command *table, size_t count, struct str name, uint32_t state,
                 const struct command **ret_command);

#endif
