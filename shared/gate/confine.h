/*
 * The first call in main() of a process that talks to strangers: privileges and system calls given up in one step.
 */
#ifndef GATE_CONFINE_H
#define GATE_CONFINE_H

#include "shared/gate/priv.h"
#include "shared/gate/sandbox.h"

/* priv_confine() and sandbox_enter(). On failure it logs the step under the name `ident` and returns a negative errno;
 * the program must end then (EX_CONFIG). The log cannot be opened afterwards: what needs one opens it before. */
int confine_enter(const char *ident, const struct priv_confinement *limits, enum sandbox_role role);

#endif
