/*
 * What POP3 says of itself before and after login: capabilities that are the same in both states (RFC 2449 5), and the
 * language (RFC 6856 3). And what either says in the words of others.
 */
#ifndef POP3_CAPA_H
#define POP3_CAPA_H

#include "handlers/pop3/policy.h"
#include "shared/io/writer.h"

/* Appends the lines of CAPA that do not depend on the state. 0 or a negative errno. */
int pop3_add_capabilities(const struct pop3_policy *policy, struct buf *out);

/* Answers LANG; true with +OK. All our texts are in English, which is what the list says. */
bool pop3_lang(struct writer *out, struct str arguments);

/* Appends words that are not ours, as the text of a response has them: one line in ASCII (RFC 1939 3) without brackets,
 * which would make response codes of them (RFC 2449 3, 8). What does not fit into the buffer is cut off. */
void pop3_add_words(struct buf *out, struct str words);

#endif
