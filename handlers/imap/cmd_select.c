/*
 * Selecting a mailbox and what concerns it as a whole: SELECT, EXAMINE, CLOSE, UNSELECT, CHECK, EXPUNGE
 * (RFC 9051 6.3.2, 6.3.3, 6.4; RFC 7162 3.2.5). Runs in imap-session as the user.
 */
#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/list.h"
#include "handlers/imap/notify.h"
#include "handlers/imap/qresync.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/seqset.h"
#include "handlers/imap/session.h"
#include "handlers/imap/update.h"
#include "shared/base/macros.h"

struct parameters {
    bool has_condstore;
    bool has_qresync;
    struct qresync qresync;
};

/* The facts of the new mailbox (RFC 9051 6.3.2). */
static int describe(struct imap *s, struct str spelled)
{
    struct mbox_status status;
    int r = mbox_view_status(s->box, &status);

    if (r < 0)
        return r;
    (void)writer_printf(&s->out, "* %" PRIu32 " EXISTS\r\n", status.messages);
    if (!(s->enabled & IMAP_REV2))
        (void)writer_printf(&s->out, "* %" PRIu32 " RECENT\r\n", status.recent);
    update_flags(s);
    /* RFC 9586 3: not the number of a message. */
    if (status.first_unseen && !(s->enabled & (IMAP_REV2 | IMAP_UIDONLY)))
        (void)writer_printf(&s->out, "* OK [UNSEEN %" PRIu32 "] First unseen message\r\n", status.first_unseen);
    (void)writer_printf(&s->out, "* OK [UIDVALIDITY %" PRIu32 "] UIDs are valid\r\n", status.uidvalidity);
    (void)writer_printf(&s->out, "* OK [UIDNEXT %" PRIu32 "] Next UID\r\n", status.uidnext);
    /* RFC 9051 7.1. Who knows messages by their UIDs only is told no such thing: they hold as long as their
     * UIDVALIDITY. */
    if (!mbox_uids_last(s->box) && !(s->enabled & IMAP_UIDONLY))
        (void)writer_text(&s->out, "* NO [UIDNOTSTICKY] UIDs are those of this session only\r\n");
    /* RFC 7162 3.1.2.1, 3.1.2.2 */
    s->modseq_told = status.highestmodseq;
    if (condstore_is_kept(s))
        (void)writer_printf(&s->out, "* OK [HIGHESTMODSEQ %" PRIu64 "] Highest\r\n", status.highestmodseq);
    else
        (void)writer_text(&s->out, "* OK [NOMODSEQ] Mod-sequences cannot be kept\r\n");
    (void)writer_text(&s->out, "* OK [MAILBOXID (");
    respond_object_id(s, 'F', status.mailboxid);
    (void)writer_text(&s->out, ")] Mailbox\r\n");
    if (s->enabled & IMAP_REV2)
        list_write(s, mbox_name(s->box), spelled);
    return 0;
}

/* select-params of RFC 4466 2.1: "(" CONDSTORE / QRESYNC (...) ")". */
static int parse_parameters(struct imap *s, struct parameters *ret)
{
    struct parse *p = &s->parse;
    int r = parse_char(p, '(', "parameters in parentheses or the end of the command");

    do {
        if (r < 0)
            return r;
        if (parse_accept_word(p, STR("CONDSTORE"))) {
            ret->has_condstore = true;
        } else if ((s->enabled & IMAP_QRESYNC) && parse_accept_word(p, STR("QRESYNC"))) {
            ret->has_qresync = true;
            r = parse_space(p);
            if (r >= 0)
                r = qresync_parse(s, &ret->qresync);
        } else {
            return parse_fail(p, s->enabled & IMAP_QRESYNC ? "CONDSTORE or QRESYNC"
                                                           : "CONDSTORE, or QRESYNC after ENABLE QRESYNC");
        }
    } while (r < 0 || parse_accept(p, ' '));
    return parse_char(p, ')', "a space or a closing parenthesis");
}

static int open_mailbox(struct imap *s, struct str name, bool is_examine, const struct parameters *parameters)
{
    bool had_box = s->box != NULL;
    int r;

    /* RFC 9051 6.3.2: a failed SELECT leaves no mailbox selected. */
    (void)imap_deselect(s);
    /* RFC 7162 3.2.11: whether or not the client has enabled anything. */
    if (had_box)
        (void)writer_text(&s->out, "* OK [CLOSED] Previous mailbox is closed\r\n");
    if (parameters->has_condstore || parameters->has_qresync)
        condstore_enable(s);
    r = mbox_open(s->store, name, is_examine ? MBOX_OPEN_READONLY : 0, &s->box);
    if (r >= 0) {
        s->state = IMAP_SELECTED;
        r = describe(s, s->parse.spelled);
    }
    if (r >= 0 && parameters->has_qresync)
        r = qresync_respond(s, &parameters->qresync);
    if (r < 0) {
        (void)imap_deselect(s);
        return respond_error(s, r, "Cannot select");
    }
    respond_code(s, mbox_is_readonly(s->box) ? "READ-ONLY" : "READ-WRITE");
    return OUTCOME_OK;
}

static int select_mailbox(struct imap *s, bool is_examine)
{
    struct parameters parameters = {.has_qresync = false};
    struct str name;
    int r = parse_space(&s->parse);

    if (r >= 0)
        r = parse_mailbox(&s->parse, &name);
    if (r >= 0 && parse_accept(&s->parse, ' '))
        r = parse_parameters(s, &parameters);
    if (r >= 0)
        r = parse_end(&s->parse);
    if (r >= 0)
        r = open_mailbox(s, name, is_examine, &parameters);
    numset_finish(&parameters.qresync.known);
    return r;
}

int cmd_select(void *session, struct str arguments)
{
    return select_mailbox(session, false);
}

int cmd_examine(void *session, struct str arguments)
{
    return select_mailbox(session, true);
}

/* RFC 9051 6.4.1: expunges without saying so, unless the mailbox is read-only. */
int cmd_close(void *session, struct str arguments)
{
    struct imap *s = session;
    _cleanup_numset_ struct numset gone = NUMSET_INIT;
    int r = parse_end(&s->parse);

    if (r < 0)
        return r;
    if (!mbox_is_readonly(s->box)) {
        r = mbox_expunge(s->box, NULL, &gone);
        if (r < 0)
            return respond_error(s, r, "Cannot expunge, the mailbox stays selected");
    }
    if (gone.count > 0)
        notify_own(s, mbox_name(s->box), 0, numset_size(&gone));
    (void)imap_deselect(s);
    return OUTCOME_OK;
}

int cmd_unselect(void *session, struct str arguments)
{
    struct imap *s = session;
    int r = parse_end(&s->parse);

    if (r < 0)
        return r;
    (void)imap_deselect(s);
    return OUTCOME_OK;
}

int cmd_check(void *session, struct str arguments)
{
    struct imap *s = session;
    int r = parse_end(&s->parse);

    if (r < 0)
        return r;
    r = mbox_is_readonly(s->box) ? 0 : mbox_flush(s->box);
    return r < 0 ? respond_error(s, r, "Cannot write to the mailbox file, the flags are kept aside") : OUTCOME_OK;
}

/* EXPUNGE, UID EXPUNGE (RFC 9051 6.4.3, 6.4.9); the driver's update names what went. */
int cmd_expunge(void *session, struct str arguments)
{
    struct imap *s = session;
    _cleanup_numset_ struct numset seqs = NUMSET_INIT, uids = NUMSET_INIT, gone = NUMSET_INIT;
    int r = 0;

    if (s->is_uid) {
        r = parse_space(&s->parse);
        if (r >= 0)
            r = seqset_parse(s, &seqs);
        if (r >= 0)
            r = seqset_uids(s, &seqs, &uids);
    }
    if (r >= 0)
        r = parse_end(&s->parse);
    if (r < 0)
        return r;
    if (mbox_is_readonly(s->box))
        return respond_error(s, -EROFS, "Cannot expunge");
    if (!s->is_uid || uids.count > 0)
        r = mbox_expunge(s->box, s->is_uid ? &uids : NULL, &gone);
    if (r < 0)
        return respond_error(s, r, "Cannot expunge");
    if (gone.count > 0)
        update_send_gone(s); /* RFC 7162 3.2.7 */
    else
        update_send(s, false);
    return OUTCOME_OK;
}
