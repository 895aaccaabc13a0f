/*
 * What the parts of `pennypost check --security` share.
 */
#ifndef ADMIN_CHECK_SECURITY_H
#define ADMIN_CHECK_SECURITY_H

#include <stdbool.h>

#include "shared/base/conf.h"

struct report {
    unsigned passed;
    unsigned failed;
    unsigned skipped;
};

/* A line of the report: fine or not; could not be looked at. `detail` may be "". */
void report_say(struct report *r, bool is_fine, const char *what, const char *detail);
void report_skip(struct report *r, const char *what, const char *why);

/* Starts the programs that strangers talk to, on a socket as for a connection, and looks at them from outside. As root.
 */
void check_running(struct report *r, const struct conf *conf);

#endif
