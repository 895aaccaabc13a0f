/*
 * The table of imap-login, apart from its main() so that tests and fuzz targets can run it.
 */
#ifndef IMAP_LOGIN_H
#define IMAP_LOGIN_H

#include "shared/login/login.h"

extern const struct login_protocol IMAP_LOGIN;

#endif
