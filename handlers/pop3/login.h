/*
 * The table of pop3-login, apart from its main() so that tests and fuzz targets can run it.
 */
#ifndef POP3_LOGIN_H
#define POP3_LOGIN_H

#include "shared/login/login.h"

extern const struct login_protocol POP3_LOGIN;

#endif
