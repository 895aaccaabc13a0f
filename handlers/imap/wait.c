/*
 * Waiting for input (see wait.h). Runs in imap-session as the user; sleeps on the connection and on the mailbox's
 * inotify fd.
 */
#include "handlers/imap/wait.h"

#include <errno.h>

#include "handlers/imap/notify.h"
#include "handlers/imap/update.h"

#define KEEPALIVE_MS (5 * 60 * 1000) /* a word now and then keeps NAT tables warm and finds dead clients */

static bool watches_others(const struct imap *s)
{
    return s->notify && s->notify->group_count > 0;
}

static bool watches_selected(const struct imap *s, bool is_idle)
{
    return s->box && (is_idle || s->notify) && notify_wants(s, NOTIFY_MESSAGES);
}

/* How long to sleep: to the next keep-alive or poll, or to the end of the idle time. */
static int sleep_ms(struct imap *s, bool is_idle, int64_t now, int64_t keepalive, int64_t deadline)
{
    int64_t left = is_idle && keepalive < deadline ? keepalive - now : deadline - now;

    if (watches_selected(s, is_idle)) {
        (void)mbox_watch_fd(s->box);
        if (mbox_watch_interval(s->box) < left)
            left = mbox_watch_interval(s->box);
    }
    if (watches_others(s) && s->notify->looked + NOTIFY_LOOK_MS - now < left)
        left = s->notify->looked + NOTIFY_LOOK_MS - now;
    return left < 0 ? 0 : (int)left;
}

static void tell(struct imap *s, bool is_idle, int64_t now)
{
    /* RFC 5465 6.1.2, 4: message numbers move only in a command that allows it, and IDLE does. */
    if (watches_selected(s, is_idle))
        update_send(s, !is_idle && s->notify->is_delayed);
    if (watches_others(s) && now - s->notify->looked >= NOTIFY_LOOK_MS)
        notify_look(s);
}

int wait_for_input(struct imap *s, bool is_idle)
{
    int64_t now = clock_monotonic_ms();
    int64_t deadline = now + (int64_t)s->conf->timeout_imap * 1000, keepalive = now + KEEPALIVE_MS;

    if (!is_idle && ((!watches_others(s) && !watches_selected(s, false)) || line_buffered(&s->in).len > 0))
        return 0;
    for (;;) {
        int r;

        tell(s, is_idle, now);
        if (s->is_leaving)
            return -ESTALE;
        r = line_wait(&s->in, watches_selected(s, is_idle) ? mbox_watch_fd(s->box) : -1,
                      sleep_ms(s, is_idle, now, keepalive, deadline));
        if (r < 0)
            return r;
        if (r & TRANSPORT_INPUT)
            return 0;
        now = clock_monotonic_ms();
        if (now >= deadline)
            return -ETIMEDOUT;
        if (is_idle && now >= keepalive) {
            (void)writer_text(&s->out, "* OK Still here\r\n");
            keepalive = now + KEEPALIVE_MS;
        }
    }
}
