/*
 * The delivery of one message to all targets of all its recipients.
 */
#ifndef SMTP_DISPATCH_H
#define SMTP_DISPATCH_H

#include "handlers/smtp/agent.h"

/* Delivers a->file to every recipient whose answer has code 0 and fills that answer in; several deliveries run at the
 * same time, and a place that two recipients lead to gets the message once; out of memory is a 451. */
void dispatch_message(struct smtp_agent *a, struct smtp_answer *answers);

#endif
