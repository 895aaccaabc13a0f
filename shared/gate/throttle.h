/*
 * Failed logins remembered over connections and processes without a daemon: a small file of counters per address (IPv6:
 * per /64) and per user in conf->runtime, guarded by kernel locks. Counters halve every five minutes. It slows guessing
 * down; it locks nobody out.
 */
#ifndef GATE_THROTTLE_H
#define GATE_THROTTLE_H

#include <stdint.h>

#include "shared/base/conf.h"
#include "shared/base/str.h"

#define THROTTLE_FILE         "throttle"
#define THROTTLE_RATES        "connections"
#define THROTTLE_WINDOW       60 /* seconds in which connections are counted */
#define THROTTLE_SLOTS        4096 /* counters in the file; a full bucket loses its smallest */
#define THROTTLE_BUCKET       8
#define THROTTLE_HALF         300 /* seconds after which a counter has halved */
#define THROTTLE_FREE_ADDRESS 5   /* failures that cost nothing */
#define THROTTLE_FREE_USER    10
#define THROTTLE_MAX          15 /* longest delay, seconds */

/* Opens the file of failed logins. An fd, which the caller closes, or a negative errno (no rights, no folder). */
int throttle_open(const struct conf *conf);

/* Seconds by which any answer about this user from this address is to be held back at the time `now`; with
 * `is_failure` the attempt is counted first. Either may be empty. Without the file (a negative fd) it is 0. The fd is
 * closed, and -1, if it cannot be unlocked otherwise. */
unsigned throttle_delay(int *fd, const char *address, struct str user, bool is_failure, int64_t now);

/* Counts a connection from this address (IPv6: /64) and returns how many there were in this minute, in a file like that
 * one; 0 without the file. */
uint64_t throttle_connections(const struct conf *conf, const char *address, int64_t now);

#endif
