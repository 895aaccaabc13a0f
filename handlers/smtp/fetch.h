/*
 * ATRN (RFC 2645), the trusted half: who may fetch which mail, and the queue run that turns the connection round.
 */
#ifndef SMTP_FETCH_H
#define SMTP_FETCH_H

#include "handlers/smtp/agent.h"

#define FETCH_DOMAINS 4096                 /* bytes of the domains of one ATRN */
#define FETCH_MS      (6 * 60 * 60 * 1000) /* a slow line and a week of mail */

/* Is there anybody who may? */
bool fetch_is_offered(const struct conf *conf);

/* Is it the domain of somebody who fetches his mail? Mail for it is taken from everybody. 1, 0, or a negative errno. */
int fetch_takes(const struct conf *conf, struct str domain);

/* What is said to ATRN with these domains, separated by commas; "" stands for all that the user has. When the answer is
 * positive their mail may go: `domains` then has them. 0, or -EBADMSG for what is no list of domains. */
int fetch_ask(struct smtp_agent *a, struct str list, struct buf *domains, struct smtp_answer *ret);

/* Lets relay send the mail for `domains` over `connection`, and waits until it has. 0 or a negative errno. */
int fetch_run(const struct conf *conf, const char *domains, int connection);

#endif
