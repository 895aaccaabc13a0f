/*
 * Parsers of SASL client messages. Run in auth and auth-sasl, as root, on what strangers sent: views only, no
 * allocation, no copying.
 */
#include "handlers/auth/sasl.h"

#include <errno.h>

int sasl_parse_plain(struct str message, struct sasl_plain *ret)
{
    struct sasl_plain p;

    if (!str_cut(&message, '\0', &p.authzid) || !str_cut(&message, '\0', &p.authcid))
        return -EBADMSG;
    p.password = message;
    /* RFC 4616 2: authcid and passwd have at least one character, none is NUL, all is UTF-8. */
    if (p.authcid.len == 0 || p.password.len == 0 || str_has_nul(p.password) || !utf8_valid(p.authzid) ||
        !utf8_valid(p.authcid))
        return -EBADMSG;
    *ret = p;
    return 0;
}
