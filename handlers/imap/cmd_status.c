/*
 * STATUS (RFC 9051 6.3.11). Runs in imap-session as the user.
 */
#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/status.h"
#include "shared/base/macros.h"

enum {
    MESSAGES = 1u << 0,
    RECENT = 1u << 1,
    UIDNEXT = 1u << 2,
    UIDVALIDITY = 1u << 3,
    UNSEEN = 1u << 4,
};

static const struct {
    const char *name;
    unsigned bit;
} names[] = {
    {"MESSAGES", MESSAGES}, {"RECENT", RECENT}, {"UIDNEXT", UIDNEXT}, {"UIDVALIDITY", UIDVALIDITY}, {"UNSEEN", UNSEEN},
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

static uint64_t item_value(const struct mbox_status *status, unsigned bit)
{
    switch (bit) {
    case MESSAGES:
        return status->messages;
    case RECENT:
        return status->recent;
    case UIDNEXT:
        return status->uidnext;
    case UIDVALIDITY:
        return status->uidvalidity;
    default:
        return status->unseen;
    }
}

int status_write(struct imap *s, struct str name, unsigned items)
{
    struct mbox_status status;
    const char *gap = "";
    int r = mbox_status(s->store, name, &status);

    if (r < 0)
        return r;
    (void)writer_text(&s->out, "* STATUS ");
    respond_mailbox(s, name);
    (void)writer_text(&s->out, " (");
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (!(items & names[i].bit))
            continue;
        (void)writer_printf(&s->out, "%s%s %" PRIu64, gap, names[i].name, item_value(&status, names[i].bit));
        gap = " ";
    }
    (void)writer_text(&s->out, ")\r\n");
    return 0;
}

int cmd_status(void *session, struct str arguments)
{
    struct imap *s = session;
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
    r = status_write(s, name, items);
    return r < 0 ? respond_error(s, r, "Cannot look at the mailbox") : OUTCOME_OK;
}
