/*
 * STATUS (RFC 9051 6.3.11). Runs in imap-session as the user.
 */
#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/qresync.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/status.h"
#include "shared/base/macros.h"

static const struct {
    const char *name;
    unsigned bit;
} names[] = {
    {"MESSAGES", STATUS_MESSAGES},
    {"RECENT", STATUS_RECENT},
    {"UIDNEXT", STATUS_UIDNEXT},
    {"UIDVALIDITY", STATUS_UIDVALIDITY},
    {"UNSEEN", STATUS_UNSEEN},
    {"DELETED", STATUS_DELETED},
    {"SIZE", STATUS_SIZE},
    {"HIGHESTMODSEQ", STATUS_HIGHESTMODSEQ},
    {"APPENDLIMIT", STATUS_APPENDLIMIT},
    {"DELETED-STORAGE", STATUS_DELETED_STORAGE},
    {"MAILBOXID", STATUS_MAILBOXID},
};

int status_parse(struct imap *s, unsigned *ret_items)
{
    struct parse *p = &s->parse;
    unsigned items = 0;
    int r = parse_char(p, '(', "a parenthesised list of status items");

    if (r < 0)
        return r;
    do {
        size_t i = 0;

        while (i < ARRAY_SIZE(names) && !parse_accept_word(p, str_from(names[i].name)))
            i++;
        if (i == ARRAY_SIZE(names))
            return parse_fail(p, "a status item like MESSAGES or UIDNEXT");
        items |= names[i].bit;
    } while (parse_accept(p, ' '));
    *ret_items = items;
    return parse_char(p, ')', "a status item or a closing parenthesis");
}

static void write_item(struct imap *s, const struct mbox_status *status, unsigned bit)
{
    const uint64_t values[] = {status->messages,      status->recent,      status->uidnext, status->uidvalidity,
                               status->unseen,        status->deleted,     status->size,    status->highestmodseq,
                               s->conf->message_size, status->deleted_size};

    if (bit == STATUS_MAILBOXID) {
        (void)writer_text(&s->out, "(");
        respond_object_id(s, 'F', status->mailboxid);
        (void)writer_text(&s->out, ")");
        return;
    }
    (void)writer_u64(&s->out, values[__builtin_ctz(bit)]);
}

void status_write(struct imap *s, struct str name, const struct mbox_status *status, unsigned items)
{
    const char *gap = "";

    (void)writer_text(&s->out, "* STATUS ");
    respond_mailbox(s, name);
    (void)writer_text(&s->out, " (");
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (!(items & names[i].bit))
            continue;
        (void)writer_printf(&s->out, "%s%s ", gap, names[i].name);
        write_item(s, status, names[i].bit);
        gap = " ";
    }
    (void)writer_text(&s->out, ")\r\n");
}

int cmd_status(void *session, struct str arguments)
{
    struct imap *s = session;
    struct mbox_status status;
    struct str name;
    unsigned items;
    int r = parse_space(&s->parse);

    if (r >= 0)
        r = parse_mailbox(&s->parse, &name);
    if (r >= 0)
        r = parse_space(&s->parse);
    if (r >= 0)
        r = status_parse(s, &items);
    if (r >= 0)
        r = parse_end(&s->parse);
    if (r < 0)
        return r;
    if (items & STATUS_HIGHESTMODSEQ)
        condstore_enable(s);
    r = mbox_status(s->store, name, &status);
    if (r < 0)
        return respond_error(s, r, "Cannot look at the mailbox");
    status_write(s, name, &status, items);
    return OUTCOME_OK;
}
