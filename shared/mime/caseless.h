/*
 * A quick look before a search without regard to case: most texts do not have what is looked for.
 */
#ifndef MIME_CASELESS_H
#define MIME_CASELESS_H

#include <stdbool.h>

#include "shared/base/str.h"

/* False: the text is nothing but ASCII and certainly does not contain what `upper` (not empty) is the folded form of.
 * True: it may, and somebody has to look closer. */
bool caseless_may_contain(struct str text, struct str upper);

#endif
