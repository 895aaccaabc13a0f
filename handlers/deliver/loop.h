/*
 * Finds mail that goes in circles: a Delivered-To field with the very address that it is being delivered to.
 */
#ifndef DELIVER_LOOP_H
#define DELIVER_LOOP_H

#include <stdbool.h>

#include "shared/base/str.h"

#define LOOP_LINE 512 /* a longer field is no Delivered-To of ours */

struct loop_watch {
    struct str address; /* borrowed */
    bool is_found;
    bool is_over; /* behind the header */
    size_t len;   /* of the line so far; LOOP_LINE: too long, skipped */
    char line[LOOP_LINE];
};

/* Looks at the next piece of the message; any pieces, LF or CRLF. */
void loop_watch(struct loop_watch *w, struct str bytes);

#endif
