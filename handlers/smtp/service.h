/*
 * One connection of the smtp monitor: what belongs to it, and the frames of smtp-session that it answers
 * (handlers/smtp/frames.h).
 */
#ifndef SMTP_SERVICE_H
#define SMTP_SERVICE_H

#include "handlers/smtp/agent.h"
#include "handlers/smtp/policy.h"
#include "shared/gate/monitor.h"

struct service { /* the monitor's `own` */
    struct smtp_agent agent;
    struct policy policy;
    int place;                  /* of a local user's connections, or -1 */
    bool is_known;              /* the client was looked at */
    bool is_told;               /* XCLIENT said who it is */
    struct buf fetched;         /* domains whose mail the client was promised */
    struct smtp_answer refusal; /* of a sender, which nobody was told yet; code 0: none */
    const char *unwelcome;      /* why it is turned away at once, or NULL */
};

/* Sets the rows of a protocol. */
void service_questions(struct monitor_protocol *p);

#endif
