/*
 * COPY, MOVE and their UID forms (RFC 9051 6.4.7, 6.4.8). Runs in imap-session as the user.
 */
#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/notify.h"
#include "handlers/imap/quota.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/seqset.h"
#include "handlers/imap/update.h"

/* COPYUID is in the tagged OK of COPY, and in an untagged OK before the EXPUNGEs of MOVE (RFC 6851 4.3). */
static void tell(struct imap *s, bool is_move, uint32_t uidvalidity, const struct numset *from, const struct numset *to)
{
    struct buf *code = &s->reply_code;

    if (from->count == 0 || to->count == 0)
        return;
    if (is_move) {
        (void)writer_printf(&s->out, "* OK [COPYUID %" PRIu32 " ", uidvalidity);
        respond_numset(s, from);
        (void)writer_text(&s->out, " ");
        respond_numset(s, to);
        (void)writer_text(&s->out, "] Moved\r\n");
        return;
    }
    respond_code(s, "COPYUID %" PRIu32 " ", uidvalidity);
    /* A set too long to be told is left out: COPYUID is a help, not a duty (RFC 4315 3). */
    if (numset_print(from, code) < 0 || buf_add_byte(code, ' ') < 0 || numset_print(to, code) < 0)
        buf_clear(code);
}

/* Is there room for them? What is moved inside a mailbox is in it already. */
static int check_room(struct imap *s, const struct numset *seqs, struct str mailbox, bool is_move)
{
    uint64_t size = 0;

    if (is_move && str_eq(mailbox, mbox_name(s->box)))
        return 0;
    for (size_t i = 0; i < seqs->count; i++) {
        for (uint32_t seq = seqs->ranges[i].first; seq <= seqs->ranges[i].last; seq++) {
            struct mbox_info info;

            if (mbox_info(s->box, seq, &info) >= 0)
                size += info.size;
        }
    }
    return quota_check(s, mailbox, size);
}

/* Are some of them gone, though the client has not been told yet? OK would say that they were copied (RFC 2180 4.4). A
 * UID that is gone is ignored, as one that never was (RFC 9051 6.4.9). */
static bool is_some_gone(struct imap *s, const struct numset *seqs)
{
    struct mbox_info info;

    for (size_t i = 0; i < seqs->count && !s->is_uid; i++)
        for (uint32_t seq = seqs->ranges[i].first; seq <= seqs->ranges[i].last; seq++)
            if (mbox_info(s->box, seq, &info) >= 0 && info.is_expunged)
                return true;
    return false;
}

static int copy(struct imap *s, bool is_move)
{
    _cleanup_numset_ struct numset seqs = NUMSET_INIT, uids = NUMSET_INIT, from = NUMSET_INIT, to = NUMSET_INIT;
    uint32_t uidvalidity = 0;
    struct str mailbox;
    int r = parse_space(&s->parse);

    if (r >= 0)
        r = seqset_parse(s, &seqs);
    if (r >= 0)
        r = parse_space(&s->parse);
    if (r >= 0)
        r = parse_mailbox(&s->parse, &mailbox);
    if (r >= 0)
        r = parse_end(&s->parse);
    if (r >= 0)
        r = seqset_uids(s, &seqs, &uids);
    if (r < 0)
        return r;
    if (is_move && mbox_is_readonly(s->box))
        return respond_error(s, -EROFS, "Cannot move");
    if (is_some_gone(s, &seqs)) {
        respond_code(s, "EXPUNGEISSUED");
        return respond_no(s, "Some of the messages are no longer there, nothing was copied");
    }
    if (uids.count == 0)
        return OUTCOME_OK;
    r = check_room(s, &seqs, mailbox, is_move);
    if (r >= 0)
        r = mbox_copy(s->box, &uids, mailbox, is_move, &from, &to, &uidvalidity);
    if (r == -ENOENT) {
        respond_code(s, "TRYCREATE");
        return respond_no(s, "There is no such mailbox");
    }
    if (r < 0)
        return respond_error(s, r, is_move ? "Cannot move" : "Cannot copy");
    if (to.count > 0)
        notify_own(s, mailbox, numset_size(&to), 0);
    if (str_eq(mailbox, mbox_name(s->box)))
        (void)numset_add_set(&s->own.added, &to);
    tell(s, is_move, uidvalidity, &from, &to);
    if (is_move && from.count > 0)
        update_send_gone(s); /* RFC 6851 4.4 */
    return OUTCOME_OK;
}

int cmd_copy(void *session, struct str arguments)
{
    return copy(session, false);
}

int cmd_move(void *session, struct str arguments)
{
    return copy(session, true);
}
