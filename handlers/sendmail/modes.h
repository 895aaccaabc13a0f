/*
 * What sendmail does besides taking a message. Each function is one -b flag and returns the exit status (sysexits).
 */
#ifndef SENDMAIL_MODES_H
#define SENDMAIL_MODES_H

#include "handlers/sendmail/options.h"
#include "shared/base/conf.h"

/* -bs: SMTP between standard input and output and the server; the invoking user counts as logged in. 0 after QUIT, 1
 * when the conversation broke off. */
int mode_smtp(const struct conf *conf);

/* -bS: commands from the standard input, every refusal a line on the standard error output. */
int mode_batch(const struct conf *conf);

/* -bv: where the addresses lead. */
int mode_verify(const struct sendmail_options *o, const struct conf *conf);

/* -bp, mailq. */
int mode_list(const struct sendmail_options *o, const struct conf *conf);

/* -q, -qR...: asks for a run of the queue, or of a part of it. */
int mode_queue_run(const struct sendmail_options *o, const struct conf *conf);

/* -bi, newaliases: the aliases file is read as it is by every delivery, so it is only looked through for faults. */
int mode_aliases(const struct conf *conf);

#endif
