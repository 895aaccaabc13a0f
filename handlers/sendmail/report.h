/*
 * The message that tells a sender that his could not be sent (-oem): a delivery status notification as others get one.
 */
#ifndef SENDMAIL_REPORT_H
#define SENDMAIL_REPORT_H

#include "handlers/sendmail/letter.h"

/* Makes it and submits it, from the null path to the sender of `l`. 0, or a negative errno: it did not go out. */
int report_send(const struct letter *l);

#endif
