/*
 * The text of an HTML document, for previews: tags dropped, character references resolved. No rendering.
 */
#ifndef MIME_HTML_H
#define MIME_HTML_H

#include "shared/base/buf.h"

struct html_text;

int html_text_new(struct html_text **ret); /* 0, -ENOMEM */
void html_text_free(struct html_text *h);  /* NULL is fine */

/* Appends the text of the next piece of the document (UTF-8, whole characters). Block tags become blanks; what stands
 * in head, style, script, title and comments is left out. 0, -ENOBUFS, -ENOMEM. */
int html_text_feed(struct html_text *h, struct str piece, struct buf *out);

#endif
