/*
 * Comparing text without regard to case: the i;unicode-casemap collation (RFC 5051), and substring search with it.
 */
#ifndef MIME_FOLD_H
#define MIME_FOLD_H

#include <stdbool.h>

#include "shared/base/buf.h"

/* Appends the form of a UTF-8 text in which equal texts are equal bytes and memcmp() sorts. 0, -ENOBUFS, -ENOMEM. */
int fold_text(struct str utf8, struct buf *out);

/* Is a valid UTF-8 text in normalization form C, as Net-Unicode is (RFC 5198 2)? False also without memory to tell. */
bool fold_is_nfc(struct str utf8);

/* Does some text, fed in pieces as UTF-8 (a piece may end inside a character), contain a given one? */
struct fold_search;

int fold_search_new(struct str utf8_needle, struct fold_search **ret); /* 0, -ENOMEM */
void fold_search_free(struct fold_search *s);                          /* NULL is fine */

/* Forgets what was fed: the next text begins. */
void fold_search_reset(struct fold_search *s);

/* 0 or -ENOMEM; *ret_is_found once it was found in what was fed since the reset (an empty needle is found at once). */
int fold_search_feed(struct fold_search *s, struct str utf8, bool *ret_is_found);

/* The text has ended: a character that was cut is looked at as it is. */
int fold_search_end(struct fold_search *s, bool *ret_is_found);

/* Reset, feed and end for one whole text. */
int fold_search_text(struct fold_search *s, struct str utf8, bool *ret_is_found);

#endif
