/*
 * The table of pop3-login, apart from its main() so that tests and fuzz targets can run it.
 */
#ifndef POP3_LOGIN_H
#define POP3_LOGIN_H

#include "shared/login/login.h"

extern const struct login_protocol POP3_LOGIN;

/* Protocol data that is handed over: capabilities of the time before login, a line each, and this line if the client
 * has given UTF8 (RFC 6856 2.1). */
#define POP3_DATA_UTF8 "+utf8"

#endif
