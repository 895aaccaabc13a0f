/*
 * The backend of a session without monitor: the agent in the same process.
 */
#ifndef SMTP_LOCAL_H
#define SMTP_LOCAL_H

#include "handlers/smtp/agent.h"

/* A backend that asks `a` (borrowed). */
struct smtp_backend local_backend(struct smtp_agent *a);

#endif
