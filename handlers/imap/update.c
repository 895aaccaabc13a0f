/*
 * Unilateral responses of imap-session (see update.h). Runs as the user; looks at the selected mailbox through
 * shared/mbox.
 */
#include "handlers/imap/update.h"

#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/notify.h"
#include "handlers/imap/qresync.h"
#include "handlers/imap/respond.h"
#include "shared/base/limits.h"

struct update {
    struct imap *s;
    struct numset vanished; /* for QRESYNC and UIDONLY: one response for all */
    uint32_t known;         /* messages that the client knows of */
    uint32_t arrived;
    bool is_told; /* flags or messages, and with them MODSEQs */
};

/* Which keyword numbers are in use. */
static uint64_t keywords_in_use(struct imap *s)
{
    uint64_t used = 0;

    for (unsigned n = 0; n < LIMIT_KEYWORDS; n++)
        if (mbox_keyword(s->box, n).len)
            used |= UINT64_C(1) << n;
    return used;
}

static void write_keywords(struct imap *s)
{
    for (unsigned n = 0; n < LIMIT_KEYWORDS; n++) {
        struct str name = mbox_keyword(s->box, n);

        if (name.len)
            (void)writer_printf(&s->out, " %.*s", STR_ARG(name));
    }
}

void update_flags(struct imap *s)
{
    s->keywords_told = keywords_in_use(s);
    (void)writer_text(&s->out, "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft");
    write_keywords(s);
    (void)writer_text(&s->out, ")\r\n* OK [PERMANENTFLAGS (");
    if (!mbox_is_readonly(s->box)) {
        (void)writer_text(&s->out, "\\Answered \\Flagged \\Deleted \\Seen \\Draft");
        write_keywords(s);
        /* RFC 9051 7.1: \* says that new keywords can be made. */
        if (s->keywords_told != UINT64_MAX)
            (void)writer_text(&s->out, " \\*");
    }
    (void)writer_printf(&s->out, ")] %s\r\n", mbox_is_readonly(s->box) ? "Read-only" : "Flags are kept");
}

void update_keywords(struct imap *s, uint64_t used)
{
    if (used & ~s->keywords_told)
        update_flags(s);
}

void update_fetch_flags(struct imap *s, uint32_t seq, bool has_uid, bool has_modseq)
{
    struct mbox_info info;

    if (mbox_info(s->box, seq, &info) < 0)
        return;
    update_keywords(s, info.flags.keywords);
    respond_fetch(s, seq, info.uid);
    if (has_uid && !(s->enabled & IMAP_UIDONLY))
        (void)writer_printf(&s->out, "UID %" PRIu32 " ", info.uid);
    (void)writer_text(&s->out, "FLAGS ");
    respond_flags(s, &info);
    if (has_modseq)
        (void)writer_printf(&s->out, " MODSEQ (%" PRIu64 ")", info.modseq);
    (void)writer_text(&s->out, ")\r\n");
}

static int on_expunged(void *context, uint32_t seq, uint32_t uid)
{
    struct update *u = context;

    (void)numset_remove(&u->s->saved, uid, uid);
    u->known--;
    /* RFC 7162 3.2.10, RFC 9586 3.4, 3.6: after ENABLE QRESYNC or UIDONLY it is VANISHED instead of EXPUNGE. */
    if (((u->s->enabled & IMAP_QRESYNC) && condstore_is_kept(u->s)) || (u->s->enabled & IMAP_UIDONLY))
        return numset_add(&u->vanished, uid, uid);
    return writer_printf(&u->s->out, "* %" PRIu32 " EXPUNGE\r\n", seq);
}

static void write_vanished(struct update *u)
{
    if (u->vanished.count == 0)
        return;
    (void)writer_text(&u->s->out, "* VANISHED ");
    respond_numset(u->s, &u->vanished);
    (void)writer_text(&u->s->out, "\r\n");
    numset_clear(&u->vanished);
}

static int on_flags(void *context, uint32_t seq)
{
    struct update *u = context;
    bool has_modseq = (u->s->enabled & (IMAP_CONDSTORE | IMAP_QRESYNC)) && condstore_is_kept(u->s);

    write_vanished(u);
    if (!notify_wants(u->s, NOTIFY_FLAGS))
        return 0;
    u->is_told = true;
    /* RFC 7162 3.2.4: after a CONDSTORE enabling command every one carries UID and MODSEQ; RFC 5465 5.1, RFC
     * 9051 7.5.2. */
    update_fetch_flags(u->s, seq, has_modseq || u->s->notify || (u->s->enabled & IMAP_REV2), has_modseq);
    return u->s->out.error;
}

static int on_arrived(void *context, uint32_t count)
{
    struct update *u = context;

    u->arrived = count;
    u->is_told = true;
    return 0;
}

static void write_exists(struct update *u)
{
    struct mbox_status status;

    (void)writer_printf(&u->s->out, "* %" PRIu32 " EXISTS\r\n", u->arrived);
    if (!(u->s->enabled & IMAP_REV2) && mbox_view_status(u->s->box, &status) >= 0)
        (void)writer_printf(&u->s->out, "* %" PRIu32 " RECENT\r\n", status.recent);
    notify_fetch(u->s, u->known + 1, u->arrived);
}

/* RFC 7162 3.2: MODSEQs were told while an expunge with a lower one is held back. A client that breaks off now must not
 * believe that it knows everything up to them. */
static void write_lower_bound(struct imap *s)
{
    if (!(s->enabled & IMAP_QRESYNC) || !condstore_is_kept(s) || !mbox_holds_expunged(s->box))
        return;
    /* The tagged reply has one code: MODIFIED or EXPUNGEISSUED is there already (the example of section 6). Between
     * commands there is no such reply. */
    if (s->reply_code.len || !s->command)
        (void)writer_printf(&s->out, "* OK [HIGHESTMODSEQ %" PRIu64 "] An expunge is held back\r\n", s->modseq_told);
    else
        respond_code(s, "HIGHESTMODSEQ %" PRIu64, s->modseq_told);
}

static void send_updates(struct imap *s, bool keep_expunged)
{
    struct update u = {.s = s, .known = s->box ? mbox_count(s->box) : 0};
    const struct mbox_changes changes = {
        .context = &u, .expunged = on_expunged, .flags = on_flags, .arrived = on_arrived};
    int r;

    if (!s->box || s->is_leaving)
        return;
    r = mbox_poll(s->box, keep_expunged, &changes);
    write_vanished(&u);
    if (u.arrived)
        write_exists(&u);
    numset_finish(&u.vanished);
    /* Who looks between commands (RFC 5465) and finds nothing has nothing to add. */
    if (keep_expunged && r >= 0 && (s->command || u.is_told))
        write_lower_bound(s);
    if (r == -ESTALE || r == -ENOENT) {
        /* The file was deleted or replaced under us: its message numbers mean nothing any more. */
        (void)writer_text(&s->out,
                          "* BYE [UNAVAILABLE] The selected mailbox was deleted or replaced; connect again\r\n");
        s->is_leaving = true;
        s->end = "mailbox gone";
    }
}

void update_send(struct imap *s, bool keep_expunged)
{
    if (notify_wants(s, NOTIFY_MESSAGES))
        send_updates(s, keep_expunged);
}

void update_send_gone(struct imap *s)
{
    struct mbox_status status;

    send_updates(s, false);
    if ((s->enabled & IMAP_QRESYNC) && s->box && !s->is_leaving && mbox_view_status(s->box, &status) >= 0)
        respond_code(s, "HIGHESTMODSEQ %" PRIu64, s->modseq_told = status.highestmodseq);
}
