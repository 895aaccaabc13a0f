/*
 * IMAP's greeting (RFC 9051 7.1.5). Runs in the monitor; nothing of the client's is in it.
 */
#include "handlers/imap/greeting.h"

#include "shared/base/str.h"

/* Literals are names and passwords before login, so LITERAL- (RFC 7888 5) is the promise that is kept. */
int imap_add_capabilities(const struct imap_offer *offer, struct buf *out)
{
    struct str mechanisms = offer->mechanisms;
    struct str mechanism;
    int r = buf_printf(out, "IMAP4rev1 IMAP4rev2 LITERAL- SASL-IR ID%s%s", offer->can_tls ? " STARTTLS" : "",
                       offer->plaintext_allowed ? "" : " LOGINDISABLED");

    while (r == 0 && str_word(&mechanisms, &mechanism))
        r = buf_printf(out, " AUTH=%.*s", STR_ARG(mechanism));
    return r;
}

int imap_add_greeting(const struct imap_offer *offer, const char *hostname, struct buf *out)
{
    int r = buf_add_str(out, STR("* OK [CAPABILITY "));

    if (r == 0)
        r = imap_add_capabilities(offer, out);
    return r < 0 ? r : buf_printf(out, "] %s Pennypost ready\r\n", hostname);
}
