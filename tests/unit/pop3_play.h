/*
 * One POP3 session over the store in memory of pop3_store.h, played to its end.
 */
#ifndef TESTS_POP3_PLAY_H
#define TESTS_POP3_PLAY_H

#include "handlers/pop3/session.h"
#include "tests/unit/pop3_store.h"

struct run {
    struct conf conf;
    struct session who;
    int result;
    struct buf out;
    struct pop3 s;
};

#define GREETING "+OK joe has 3 messages (83 octets)\r\n"

/* cmocka's: a store with three messages of which nothing is known yet. */
int pop3_play_setup(void **state);

/* joe on a pipe, with a frozen clock; then run_finish(). */
void run_init(struct run *r);
void run_finish(struct run *r);

/* Plays the input to its end and collects all output. */
void play(struct run *r, const char *input);

#endif
