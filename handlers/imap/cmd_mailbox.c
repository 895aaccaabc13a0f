/*
 * Commands on mailboxes as such: CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE (RFC 9051 6.3.4 to 6.3.8). Runs in
 * imap-session as the user.
 */
#include <errno.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/session.h"

/* SP mailbox CRLF; a trailing separator only says that children are meant (RFC 9051 6.3.4). */
static int parse_one(struct imap *s, struct str *ret)
{
    int r = parse_space(&s->parse);

    if (r >= 0)
        r = parse_mailbox(&s->parse, ret);
    if (r < 0)
        return r;
    if (ret->len > 1 && str_ends(*ret, STR("/")))
        *ret = str_sub(*ret, 0, ret->len - 1);
    return 0;
}

int cmd_create(void *session, struct str arguments)
{
    struct imap *s = session;
    struct str name;
    int r = parse_one(s, &name);

    if (r >= 0)
        r = parse_end(&s->parse);
    if (r < 0)
        return r;
    if (str_eq(name, STR("INBOX"))) {
        respond_code(s, "ALREADYEXISTS");
        return respond_no(s, "INBOX is always there");
    }
    r = mbox_create(s->store, name);
    return r < 0 ? respond_error(s, r, "Cannot create") : OUTCOME_OK;
}

int cmd_delete(void *session, struct str arguments)
{
    struct imap *s = session;
    struct str name;
    int r = parse_one(s, &name);

    if (r >= 0)
        r = parse_end(&s->parse);
    if (r < 0)
        return r;
    if (str_eq(name, STR("INBOX"))) {
        respond_code(s, "CANNOT");
        return respond_no(s, "INBOX cannot be deleted");
    }
    /* Its own file must not be deleted under a selected mailbox: clients select another one, or mean it. */
    if (s->box && str_eq(name, mbox_name(s->box))) {
        (void)imap_deselect(s);
        (void)writer_text(&s->out, "* OK [CLOSED] The selected mailbox is being deleted\r\n");
    }
    r = mbox_delete(s->store, name);
    return r < 0 ? respond_error(s, r, "Cannot delete") : OUTCOME_OK;
}

int cmd_rename(void *session, struct str arguments)
{
    struct imap *s = session;
    struct str from, to;
    int r = parse_one(s, &from);

    if (r >= 0)
        r = parse_one(s, &to);
    if (r >= 0)
        r = parse_end(&s->parse);
    if (r < 0)
        return r;
    if (str_eq(to, STR("INBOX"))) {
        respond_code(s, "ALREADYEXISTS");
        return respond_no(s, "INBOX is always there");
    }
    r = mbox_rename(s->store, from, to);
    return r < 0 ? respond_error(s, r, "Cannot rename") : OUTCOME_OK;
}

static int subscribe(struct imap *s, bool is_subscribed)
{
    struct str name;
    int r = parse_one(s, &name);

    if (r >= 0)
        r = parse_end(&s->parse);
    if (r < 0)
        return r;
    r = mbox_subscribe(s->store, name, is_subscribed);
    return r < 0 ? respond_error(s, r, is_subscribed ? "Cannot subscribe" : "Cannot unsubscribe") : OUTCOME_OK;
}

int cmd_subscribe(void *session, struct str arguments)
{
    return subscribe(session, true);
}

int cmd_unsubscribe(void *session, struct str arguments)
{
    return subscribe(session, false);
}
