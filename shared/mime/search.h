/*
 * SEARCH BODY and TEXT over a whole message: fed in wire form, it decodes the transfer encodings and character sets of
 * the text parts, and the headers, and looks for strings in them without regard to case (RFC 9051 6.4.4).
 */
#ifndef MIME_SEARCH_H
#define MIME_SEARCH_H

#include <stdbool.h>

#include "shared/base/buf.h"

struct mime_search;

/* One string in UTF-8; is_text: header fields count too (TEXT), else only bodies (BODY; part headers are no body). */
int mime_search_new(struct str needle, bool is_text, struct mime_search **ret);
void mime_search_free(struct mime_search *s);

/* Then for each message: feed its bytes until it is found or the message ends. 0, -ENOMEM. */
int mime_search_feed(struct mime_search *s, struct str piece, bool *ret_is_found);
int mime_search_end(struct mime_search *s, bool *ret_is_found); /* ready for the next message then */

#endif
