/*
 * What mailq shows: the queue, as far as the user who asks has to do with it.
 */
#ifndef SMTP_LISTING_H
#define SMTP_LISTING_H

#include "handlers/smtp/agent.h"

/* Makes a file of lines, the last one a summary: root sees everything, others what they submitted. A positive answer
 * comes with the file (at its first byte), which the caller closes. */
int listing_make(struct smtp_agent *a, struct smtp_answer *ret, int *ret_fd);

#endif
