/*
 * What the files of the monitor share: monitor.c (the loop), monitor_front.c (frames of the front and of T),
 * monitor_auth.c (login attempts and A), monitor_mechanisms.c (what is announced). Not for others.
 */
#ifndef GATE_MONITOR_PARTS_H
#define GATE_MONITOR_PARTS_H

#include "shared/gate/monitor.h"

/* Permit tables. */
extern const struct permit MONITOR_FRONT[];
extern const size_t MONITOR_FRONT_ROWS;
extern const struct permit MONITOR_TLS[];
extern const size_t MONITOR_TLS_ROWS;
extern const struct permit MONITOR_AUTH_ROWS[];
extern const size_t MONITOR_AUTH_ROW_COUNT;

/* Says the greeting on the connection once, where the protocol leaves that to the monitor. 0 or a negative errno. */
int monitor_greet(struct monitor *m);

/* Starts T on the connection; its inner end becomes m->connection. */
int monitor_start_tls(struct monitor *m);

/* Starts A ahead of the first attempt, where one is likely to come and may have a password: what A loads and reads
 * takes as long as the front's start and the client's first words. Where it cannot be started the attempt says so. */
void monitor_auth_ahead(struct monitor *m);

/* Ends it again: nobody has tried to log in. */
void monitor_auth_dismiss(struct monitor *m);

/* Handlers of the front's authentication frames. */
int monitor_auth_start(void *context, struct frame *f, struct frame_reader *in);
int monitor_auth_response(void *context, struct frame *f, struct frame_reader *in);
int monitor_auth_cancel(void *context, struct frame *f, struct frame_reader *in);

/* The attempt ended without a verdict: A died or took too long. */
int monitor_auth_lost(struct monitor *m, const char *reason);

/* ms that A has to leave by itself once it may have said that somebody is logged in: closing a PAM session takes time.
 */
int monitor_auth_leave(const struct monitor *m);

/* The client does not answer what it was asked: tells A that nothing more comes. */
void monitor_auth_abandon(struct monitor *m);

/* Sends the answer that was held back. */
int monitor_auth_release(struct monitor *m);

/* May a password be sent now? */
bool monitor_allows_plaintext(const struct monitor *m);

/* Appends the mechanisms that can succeed now, blank-separated, the strongest first. */
int monitor_mechanisms(const struct monitor *m, struct buf *out);

/* Makes the APOP challenge of the greeting (POP3, once), if there are device passwords for it. */
int monitor_make_apop(struct monitor *m);

/* Sends a frame to the front. A front that is gone is no error here: its socket tells the loop. */
int monitor_tell_front(struct monitor *m, const struct frame *f, int fd);

#endif
