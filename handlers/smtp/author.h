/*
 * Who a submitted message says it is from (RFC 5322 3.6.2, RFC 6409 8.1). Part of smtp-session.
 */
#ifndef SMTP_AUTHOR_H
#define SMTP_AUTHOR_H

#include "handlers/smtp/header.h"
#include "handlers/smtp/session.h"

#define AUTHOR_TEXT 8192 /* octets of From and of Sender that are looked at */

/* Fit for intake.judge. A From that is missing is added. Where senders must be the user's own, so must one address of
 * From or Sender; a message that says nothing about its real sender gets a Sender field. 0; -EPROTO: no From that could
 * be told from; -EKEYREJECTED: Sender is somebody else, too; others: the backend is gone. */
int author_judge(void *session, const struct header_watch *header, struct buf *add);

#endif
