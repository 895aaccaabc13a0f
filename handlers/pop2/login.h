/*
 * The table of pop2-login, apart from its main() so that tests and fuzz targets can run it.
 */
#ifndef POP2_LOGIN_H
#define POP2_LOGIN_H

#include "shared/login/login.h"

/* HELO and QUIT. Everything else, and a HELO that fails, ends the connection (RFC 937, server decision table). */
extern const struct login_protocol POP2_LOGIN;

#endif
