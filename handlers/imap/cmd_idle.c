/*
 * IDLE (RFC 2177, RFC 9051 6.3.13): tells of changes as they happen until the client says DONE. Runs in imap-session as
 * the user.
 */
#include <errno.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/wait.h"

int cmd_idle(void *session, struct str arguments)
{
    struct imap *s = session;
    struct str line;
    int r = parse_end(&s->parse);

    if (r < 0)
        return r;
    (void)writer_text(&s->out, "+ idling\r\n");
    r = wait_for_input(s, true);
    if (r == -ESTALE)
        return respond_no(s, "The mailbox is gone");
    if (r < 0)
        return r;
    r = line_read(&s->in, &line);
    if (r == -ENOBUFS || r == -EBADMSG || (r >= 0 && !str_ieq(str_trim(line), STR("DONE"))))
        return respond_bad(s, "Expected DONE");
    return r < 0 ? r : OUTCOME_OK;
}
