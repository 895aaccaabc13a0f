/*
 * Progress of long commands (see progress.h). Runs in imap-session as the user; writes to the client's connection only.
 */
#include "handlers/imap/progress.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define LOOK_MS  500
#define FIRST_MS 5000
#define TELL_MS  10000 /* RFC 9585 4: 10 to 15 seconds */

/* A "]" would end the response code: NIL then stands for the tag. */
static void tell(const struct progress *p, uint64_t done)
{
    struct writer *out = &p->s->out;

    if (strchr(p->s->tag, ']'))
        (void)writer_text(out, "* OK [INPROGRESS (NIL");
    else
        (void)writer_printf(out, "* OK [INPROGRESS (\"%s\"", p->s->tag);
    if (done < p->goal)
        (void)writer_printf(out, " %" PRIu64 " %" PRIu64 ")] Still %s\r\n", done, p->goal, p->doing);
    else
        (void)writer_printf(out, " NIL NIL)] Still %s\r\n", p->doing);
    (void)writer_flush(out);
}

int progress_go_on(struct progress *p, uint64_t done)
{
    struct imap *s = p->s;
    int64_t now = clock_monotonic_ms();

    if (p->looked == 0) {
        p->looked = now;
        p->told = now - (TELL_MS - FIRST_MS);
    }
    if (now - p->looked < LOOK_MS)
        return 0;
    p->looked = now;
    if (transport_is_broken(&s->transport))
        return s->out.error = -EPIPE;
    if (transport_is_stopped(&s->transport))
        return -ECANCELED;
    if (now - p->told < TELL_MS)
        return 0;
    p->told = now;
    tell(p, done);
    return s->out.error;
}
