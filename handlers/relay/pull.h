/*
 * `relay --pull`: fetches the mail of this machine from its provider by ATRN (RFC 2645). Runs in relay, as root.
 */
#ifndef RELAY_PULL_H
#define RELAY_PULL_H

#include "shared/base/conf.h"

/* Asks `atrn_provider` and waits until everything is here. The exit status: 0 also where there was no mail. */
int pull_run(struct conf *conf);

#endif
