/*
 * ATRN on the customer's side (RFC 2645 5.2.1), in relay-session: the connection is turned round, and what comes then
 * is carried to a server of ours, undeciphered.
 */
#ifndef RELAY_TURN_H
#define RELAY_TURN_H

#include "handlers/relay/wire.h"

/* Says ATRN for all domains that we have there. 0 with the answer, or a negative errno: the connection is gone. */
int turn_ask(struct wire *w, struct talk_reply *ret);

/* After a positive one: carries bytes between the connection and `inner` until either has ended. 0 or a negative
 * errno. */
int turn_carry(struct wire *w, int inner);

#endif
