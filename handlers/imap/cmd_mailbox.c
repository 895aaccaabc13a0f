/*
 * Commands on mailboxes as such: CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE (RFC 9051 6.3.4 to 6.3.8). Runs in
 * imap-session as the user.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/folders.h"
#include "handlers/imap/list.h"
#include "handlers/imap/notify.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/session.h"
#include "handlers/imap/special.h"
#include "handlers/imap/update.h"
#include "shared/mime/fold.h"

/* SP mailbox CRLF; a trailing separator only says that children are meant (RFC 9051 6.3.4). */
static int parse_one(struct imap *s, struct str *ret)
{
    int r = parse_space(&s->parse);

    if (r >= 0)
        r = parse_mailbox(&s->parse, ret);
    if (r < 0)
        return r;
    if (ret->len > 1 && str_ends(*ret, STR("/"))) {
        *ret = str_sub(*ret, 0, ret->len - 1);
        s->parse.spelled = str_sub(s->parse.spelled, 0, ret->len);
    }
    return 0;
}

/* RFC 9051 6.3.9.7: the client learns by what name it finds the mailbox. */
static void tell_name(struct imap *s, struct str name, struct str spelled)
{
    if ((s->enabled & IMAP_REV2) && !str_eq(name, spelled))
        list_write(s, name, spelled);
}

/* RFC 9051 5.1: no 8-bit name is made that is not Net-Unicode (RFC 5198). What stood in modified UTF-7 is kept as it is
 * (RFC 3501 5.1.3). 0, or OUTCOME_NO. */
static int check_new(struct imap *s, struct str name)
{
    if (!s->parse.is_utf8 || fold_is_nfc(name))
        return 0;
    respond_code(s, "CANNOT");
    return respond_no(s, "The name is not in normalization form C, as new names have to be");
}

/* [SP "(" "USE" SP "(" [attribute *(SP attribute)] ")" ")"] (RFC 6154 5). 0, OUTCOME_NO, or a negative errno. */
static int parse_use(struct imap *s, unsigned *ret_uses)
{
    struct parse *p = &s->parse;
    int r = parse_char(p, '(', "USE in parentheses or the end of the command");

    if (r >= 0 && !parse_accept_word(p, STR("USE")))
        r = parse_fail(p, "USE");
    if (r >= 0)
        r = parse_space(p);
    if (r >= 0)
        r = parse_char(p, '(', "special-use attributes in parentheses");
    while (r >= 0 && !parse_accept(p, ')')) {
        struct str before = p->rest, name;
        int use;

        r = parse_char(p, '\\', "an attribute like \\Drafts");
        if (r >= 0)
            r = parse_atom(p, "an attribute like \\Drafts", &name);
        if (r < 0)
            return r;
        use = special_use(str_sub(before, 0, name.len + 1));
        if (use < 0) {
            respond_code(s, "USEATTR");
            return respond_no(s, "A mailbox cannot be made for %.*s here", STR_ARG(str_sub(before, 0, name.len + 1)));
        }
        *ret_uses |= 1u << use;
        if (parse_peek(p) != ')' && !parse_accept(p, ' '))
            r = parse_fail(p, "a space or a closing parenthesis");
    }
    return r < 0 ? r : parse_char(p, ')', "a closing parenthesis");
}

/* CREATE (RFC 9051 6.3.4), with MAILBOXID in the reply (RFC 8474 4.2). */
int cmd_create(void *session, struct str arguments)
{
    struct imap *s = session;
    struct mbox_status status;
    unsigned uses = 0;
    struct str name;
    int r = parse_one(s, &name);

    if (r >= 0 && parse_accept(&s->parse, ' '))
        r = parse_use(s, &uses);
    if (r == 0)
        r = parse_end(&s->parse);
    if (r == 0)
        r = check_new(s, name);
    if (r != 0)
        return r;
    if (str_eq(name, STR("INBOX"))) {
        respond_code(s, "ALREADYEXISTS");
        return respond_no(s, "INBOX is always there");
    }
    r = mbox_create(s->store, name);
    if (r >= 0 && uses) {
        r = special_assign(s, name, uses);
        if (r < 0)
            (void)mbox_delete(s->store, name); /* all or nothing */
    }
    if (r < 0)
        return respond_error(s, r, "Cannot create");
    notify_own_name(s, OWN_CREATED, name, STR_NULL);
    tell_name(s, name, s->parse.spelled);
    if (mbox_status(s->store, name, &status) >= 0) {
        (void)respond_ok(s, "Created");
        respond_code(s, "MAILBOXID (");
        if (respond_object_id_text(&s->reply_code, 'F', status.mailboxid) < 0 || buf_add_byte(&s->reply_code, ')') < 0)
            buf_clear(&s->reply_code);
    }
    return OUTCOME_OK;
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
    r = mbox_delete(s->store, name); /* one that was only offered is not offered any more */
    if (r < 0)
        return respond_error(s, r, "Cannot delete");
    notify_own_name(s, OWN_DELETED, name, STR_NULL);
    r = special_moved(s, name, STR(""));
    return r < 0 ? respond_error(s, r, "Deleted, but its special use cannot be forgotten") : OUTCOME_OK;
}

/* The selected mailbox was renamed by this very session: it stays selected under its new name, if its messages are
 * still those that the client knows. */
static void follow(struct imap *s, struct str name)
{
    uint32_t count = mbox_count(s->box);
    bool is_readonly = mbox_is_readonly(s->box), is_same;
    struct mbox_info before = {.uid = 0}, after = {.uid = 0};
    struct mbox *box;

    if (mbox_open(s->store, name, is_readonly ? MBOX_OPEN_READONLY : 0, &box) < 0)
        return; /* the next update tells that it is gone */
    is_same =
        mbox_count(box) >= count && (count == 0 || (mbox_info(s->box, count, &before) >= 0 &&
                                                    mbox_info(box, count, &after) >= 0 && before.uid == after.uid));
    if (!is_same) {
        (void)mbox_close(box);
        return;
    }
    (void)mbox_close(s->box);
    s->box = box;
    if (mbox_count(box) > count)
        (void)writer_printf(&s->out, "* %" PRIu32 " EXISTS\r\n", mbox_count(box));
}

int cmd_rename(void *session, struct str arguments)
{
    struct imap *s = session;
    struct str from, to, spelled, now = STR_NULL;
    int r = parse_one(s, &from);

    spelled = s->parse.spelled;
    if (r >= 0)
        r = parse_one(s, &to);
    if (r >= 0)
        r = parse_end(&s->parse);
    if (r == 0)
        r = check_new(s, to);
    if (r != 0)
        return r;
    if (str_eq(to, STR("INBOX"))) {
        respond_code(s, "ALREADYEXISTS");
        return respond_no(s, "INBOX is always there");
    }
    if (s->box && !str_eq(from, STR("INBOX"))) {
        update_send(s, false);
        now = s->box ? folders_renamed(&s->parse, mbox_name(s->box), from, to) : STR_NULL;
    }
    r = mbox_rename(s->store, from, to);
    if (r == -ENOENT && special_is_offered(s, from) && mbox_create(s->store, from) >= 0)
        r = mbox_rename(s->store, from, to);
    if (r < 0)
        return respond_error(s, r, "Cannot rename");
    if (str_eq(from, STR("INBOX")))
        notify_own_name(s, OWN_CREATED, to, STR_NULL); /* RFC 9051 6.3.6: INBOX stays */
    else
        notify_own_name(s, OWN_RENAMED, from, to);
    if (now.len)
        follow(s, now);
    if (str_eq(from, STR("INBOX")))
        notify_own(s, from, 0, NOTIFY_OWN_ALL); /* RFC 9051 6.3.6: its messages are moved */
    /* RFC 9051 6.3.6: INBOX stays, and is no old name of anything. */
    if (!str_eq(from, STR("INBOX")) && (!str_eq(from, spelled) || !str_eq(to, s->parse.spelled)))
        tell_name(s, to, spelled);
    r = special_moved(s, from, to);
    return r < 0 ? respond_error(s, r, "Renamed, but its special use cannot be kept") : OUTCOME_OK;
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
    if (r < 0)
        return respond_error(s, r, is_subscribed ? "Cannot subscribe" : "Cannot unsubscribe");
    notify_own_name(s, is_subscribed ? OWN_SUBSCRIBED : OWN_UNSUBSCRIBED, name, STR_NULL);
    return OUTCOME_OK;
}

int cmd_subscribe(void *session, struct str arguments)
{
    return subscribe(session, true);
}

int cmd_unsubscribe(void *session, struct str arguments)
{
    return subscribe(session, false);
}
