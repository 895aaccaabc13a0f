/*
 * What tests can do to the store in memory (imap_store.c) behind a session's back, as other programs would.
 */
#ifndef TESTS_IMAP_STORE_H
#define TESTS_IMAP_STORE_H

#include <stdint.h>

void store_deliver(const char *box, const char *text);
void store_expunge(const char *box, uint32_t uid);
void store_flag(const char *box, uint32_t uid, uint32_t system);

/* Messages vanish after so many pieces were read (0: they do not). */
void store_cut(unsigned pieces);

/* The next CREATE fails with this error, as a store on a disk can. */
void store_fail(int error);

#endif
