/*
 * POP3's greeting (RFC 1939 4). Runs in the monitor; nothing of the client's is in it.
 */
#include "handlers/pop3/greeting.h"

int pop3_add_greeting(const char *hostname, const char *apop, struct buf *out)
{
    return buf_printf(out, "+OK %s Pennypost ready%s%s\r\n", hostname, apop[0] != '\0' ? " " : "", apop);
}
