/*
 * What a program of the chain has started itself. Runs in the monitor or keeper.
 */
#ifndef GATE_OFFSPRING_H
#define GATE_OFFSPRING_H

#include <sys/types.h>

/* Stops a child of ours that reaps its orphans (is_reaper of struct chain_spec) and kills all that is below it,
 * whatever group or session it leads. The child itself stays, stopped, for the caller to kill. */
void offspring_end(pid_t pid);

#endif
