/*
 * LANG (RFC 6856 3): which language our texts are in. Used before and after login.
 */
#ifndef POP3_LANG_H
#define POP3_LANG_H

#include "shared/io/writer.h"

/* Answers a LANG command. 0: with +OK, 1: with -ERR. */
int pop3_lang(struct writer *out, struct str arguments);

#endif
