/*
 * The Received field. Runs in smtp-session; pure but for the clock.
 */
#include "handlers/smtp/received.h"

#include <errno.h>

#include "shared/route/path.h"

/* RFC 3848 and, for SMTPUTF8, RFC 6531 4.3: the "with" keyword says how the message came. */
static int add_protocol(const struct received *r, struct buf *out)
{
    const char *base = r->is_lmtp ? "LMTP" : r->is_esmtp ? "ESMTP" : "SMTP";

    if (r->is_utf8)
        base = r->is_lmtp ? "UTF8LMTP" : "UTF8SMTP";
    return buf_printf(out, " with %s%s%s", base, r->is_tls ? "S" : "", r->is_authenticated ? "A" : "");
}

/* TCP-info: an address literal, IPv6 ones with their tag (RFC 5321 4.1.3). A unix socket has none. */
static int add_client(const struct received *r, struct buf *out)
{
    bool is_v6 = str_chr(r->peer, ':') >= 0;
    int e = 0;

    if (!is_v6 && str_chr(r->peer, '.') < 0)
        return buf_printf(out, "from %.*s", STR_ARG(r->helo));
    e = buf_printf(out, "from %.*s (", STR_ARG(r->helo));
    if (e == 0 && r->name.len > 0)
        e = buf_printf(out, "%.*s ", STR_ARG(r->name));
    if (e == 0)
        e = buf_printf(out, "[%s%.*s])", is_v6 ? "IPv6:" : "", STR_ARG(r->peer));
    return e;
}

int received_format(const struct received *r, const struct clock *clock, struct buf *out)
{
    size_t start = out->len;
    int e;

    e = buf_add_str(out, STR("Received: "));
    if (e == 0 && !r->is_local)
        e = add_client(r, out);
    if (e == 0)
        e = buf_printf(out, "%sby %.*s (Pennypost", r->is_local ? "" : "\n\t", STR_ARG(r->by));
    if (e == 0 && r->peer.len == 0)
        e = buf_printf(out, ", from uid %lu", (unsigned long)r->uid);
    if (e == 0)
        e = buf_add_byte(out, ')');
    if (e == 0 && !r->is_local)
        e = add_protocol(r, out);
    if (e == 0)
        e = buf_printf(out, "\n\tid %.*s", STR_ARG(r->id));
    if (e == 0 && r->recipient.len > 0)
        e = buf_printf(out, "\n\tfor <%.*s>", STR_ARG(r->recipient));
    if (e == 0 && r->cipher.len > 0) /* RFC 8314 4.3 */
        e = buf_printf(out, "\n\ttls %.*s", STR_ARG(r->cipher));
    if (e == 0 && r->priority != 0)
        e = buf_printf(out, "\n\tPRIORITY %d", (int)r->priority);
    if (e == 0)
        e = buf_add_str(out, STR(";\n\t"));
    if (e == 0)
        e = clock_rfc5322(clock, r->when, out);
    if (e == 0)
        e = buf_add_byte(out, '\n');
    if (e < 0)
        buf_truncate(out, start);
    return e;
}
