/*
 * Binary messages (RFC 3030) become such with lines: by the program recode, which alone reads them.
 */
#ifndef ROUTE_RECODE_H
#define ROUTE_RECODE_H

#include "shared/base/conf.h"
#include "shared/route/answer.h"

/* *ret_fd: the message with lines, in a fresh file without a name, read-only. 0, or a negative errno with the refusal
 * in *ret. */
int recode_copy(const struct conf *conf, int message, int *ret_fd, struct smtp_answer *ret);

#endif
