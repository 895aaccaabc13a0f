/*
 * Who called on the unix sockets of sendmail(8) and of LMTP: the kernel says it.
 */
#ifndef SMTP_CALLER_H
#define SMTP_CALLER_H

#include "handlers/smtp/agent.h"

/* Fills in a->local_user, local_uid and is_trusted for the process on fd 0. *ret_place is the fd that holds its user's
 * place among the connections, which the caller closes, or stays as it is; *ret_unwelcome says why he is turned away,
 * or stays as it is. 0; a negative errno: nobody can tell who it is, and he must not be served. */
int caller_find(struct smtp_agent *a, int *ret_place, const char **ret_unwelcome);

/* LMTP over a unix socket is for mail servers, which run under accounts of the system: they have looked at a message
 * before they deliver it here, and nobody shall go around them. *ret_unwelcome says why somebody else is turned away,
 * or stays as it is; so it does over a network, where the admin decides who may connect. 0, or a negative errno: nobody
 * can tell who it is. */
int caller_check_server(const struct conf *conf, const char **ret_unwelcome);

#endif
