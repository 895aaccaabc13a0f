/*
 * IDLE (RFC 2177, RFC 9051 6.3.13): tells of changes as they happen until the client says DONE. Runs in imap-session as
 * the user; sleeps on the connection and on the mailbox's inotify fd.
 */
#include <errno.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/update.h"

#define KEEPALIVE_MS (5 * 60 * 1000) /* a word now and then keeps NAT tables warm and finds dead clients */

/* How long to sleep: to the next keep-alive or poll, or to the end of the idle time. */
static int sleep_ms(struct imap *s, int64_t now, int64_t keepalive, int64_t deadline)
{
    int64_t left = keepalive < deadline ? keepalive - now : deadline - now;

    if (s->box)
        (void)mbox_watch_fd(s->box);
    if (s->box && mbox_watch_interval(s->box) < left)
        left = mbox_watch_interval(s->box);
    return left < 0 ? 0 : (int)left;
}

/* Returns when a line of input has come (0), or with a negative errno. */
static int wait_for_input(struct imap *s)
{
    int64_t now = clock_monotonic_ms();
    int64_t deadline = now + (int64_t)s->conf->timeout_imap * 1000, keepalive = now + KEEPALIVE_MS;

    for (;;) {
        int r;

        update_send(s, false);
        if (s->is_leaving)
            return -ESTALE;
        r = line_wait(&s->in, s->box ? mbox_watch_fd(s->box) : -1, sleep_ms(s, now, keepalive, deadline));
        if (r < 0)
            return r;
        if (r & TRANSPORT_INPUT)
            return 0;
        now = clock_monotonic_ms();
        if (now >= deadline)
            return -ETIMEDOUT;
        if (now >= keepalive) {
            (void)writer_text(&s->out, "* OK Still here\r\n");
            keepalive = now + KEEPALIVE_MS;
        }
    }
}

int cmd_idle(void *session, struct str arguments)
{
    struct imap *s = session;
    struct str line;
    int r = parse_end(&s->parse);

    if (r < 0)
        return r;
    (void)writer_text(&s->out, "+ idling\r\n");
    r = wait_for_input(s);
    if (r == -ESTALE)
        return respond_no(s, "The mailbox is gone");
    if (r < 0)
        return r;
    r = line_read(&s->in, &line);
    if (r == -ENOBUFS || r == -EBADMSG || (r >= 0 && !str_ieq(str_trim(line), STR("DONE"))))
        return respond_bad(s, "Expected DONE");
    return r < 0 ? r : OUTCOME_OK;
}
