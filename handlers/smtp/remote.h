/*
 * The backend of a sandboxed session: every question goes to the monitor as a frame.
 */
#ifndef SMTP_REMOTE_H
#define SMTP_REMOTE_H

#include <stdbool.h>

#include "handlers/smtp/backend.h"

struct remote {
    int control; /* borrowed */
};

struct smtp_backend remote_backend(struct remote *r);

/* FRAME_SMTP_FACTS_WANTED and its answer; `cipher` gets a C string. 0 or a negative errno. */
int remote_facts(const struct remote *r, char *cipher, size_t size, bool *ret_is_near);

#endif
