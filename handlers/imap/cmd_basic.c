/*
 * Commands that touch no mailbox: CAPABILITY, NOOP, LOGOUT, ENABLE, ID, NAMESPACE. Runs in imap-session as the user.
 */
#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/quota.h"
#include "handlers/imap/respond.h"
#include "shared/base/limits.h"
#include "shared/base/log.h"
#include "shared/base/macros.h"

#define ID_FIELDS 30 /* RFC 2971 3.3: at most 30 field-value pairs */

void capability_write(struct imap *s)
{
    (void)writer_printf(
        &s->out,
        "CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL+ ENABLE ID IDLE NAMESPACE CHILDREN UNSELECT UIDPLUS MOVE "
        "LIST-EXTENDED LIST-STATUS SPECIAL-USE CREATE-SPECIAL-USE STATUS=SIZE ESEARCH SEARCHRES WITHIN "
        "BINARY CONDSTORE QRESYNC MULTIAPPEND UTF8=ACCEPT APPENDLIMIT=%" PRIu64
        " SORT SORT=DISPLAY ESORT THREAD=ORDEREDSUBJECT THREAD=REFERENCES THREAD=REFS "
        "I18NLEVEL=1 SAVEDATE PREVIEW OBJECTID PARTIAL REPLACE INPROGRESS NOTIFY UIDONLY",
        s->conf->message_size);
    if (quota_is_any(s))
        (void)writer_text(&s->out, " QUOTA QUOTA=RES-STORAGE");
    /* RFC 4978 3: not offered a second time. */
    if (!s->compress)
        (void)writer_text(&s->out, " COMPRESS=DEFLATE");
}

int cmd_capability(void *session, struct str arguments)
{
    struct imap *s = session;
    int r = parse_end(&s->parse);

    if (r < 0)
        return r;
    (void)writer_text(&s->out, "* ");
    capability_write(s);
    (void)writer_text(&s->out, "\r\n");
    return OUTCOME_OK;
}

int cmd_noop(void *session, struct str arguments)
{
    struct imap *s = session;

    return parse_end(&s->parse);
}

int cmd_logout(void *session, struct str arguments)
{
    struct imap *s = session;
    int r = parse_end(&s->parse);

    if (r < 0)
        return r;
    (void)writer_text(&s->out, "* BYE Until the next post\r\n");
    s->is_leaving = true;
    s->end = "logout";
    return OUTCOME_OK;
}

/* RFC 5161 3.1, RFC 9051 6.3.1: unknown ones are ignored, ENABLED names those that are newly on. */
int cmd_enable(void *session, struct str arguments)
{
    static const struct {
        const char *name;
        unsigned bits;
    } known[] = {
        {"CONDSTORE", IMAP_CONDSTORE}, {"QRESYNC", IMAP_QRESYNC | IMAP_CONDSTORE},
        {"UTF8=ACCEPT", IMAP_UTF8},    {"IMAP4rev2", IMAP_REV2},
        {"UIDONLY", IMAP_UIDONLY},
    };
    struct imap *s = session;
    unsigned named = 0;
    int r;

    do {
        struct str name;

        r = parse_space(&s->parse);
        if (r >= 0)
            r = parse_atom(&s->parse, "the name of a capability", &name);
        if (r < 0)
            return r;
        for (size_t i = 0; i < ARRAY_SIZE(known); i++)
            if (str_ieq(name, str_from(known[i].name)))
                named |= 1u << i;
    } while (!parse_at_end(&s->parse));

    (void)writer_text(&s->out, "* ENABLED");
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if ((named & (1u << i)) && (known[i].bits & ~s->enabled))
            (void)writer_printf(&s->out, " %s", known[i].name);
    (void)writer_text(&s->out, "\r\n");
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        s->enabled |= named & (1u << i) ? known[i].bits : 0;
    s->parse.is_utf8 = (s->enabled & (IMAP_UTF8 | IMAP_REV2)) != 0;
    return OUTCOME_OK;
}

/* nstring */
static int parse_id_value(struct parse *p, struct str *ret)
{
    if (parse_accept_word(p, STR("NIL"))) {
        *ret = STR_NULL;
        return 0;
    }
    return parse_string(p, "a string or NIL", ret);
}

static int parse_id(struct imap *s, struct str *ret_name, struct str *ret_version)
{
    struct parse *p = &s->parse;
    int r = parse_char(p, '(', "a parenthesised list or NIL");

    for (unsigned n = 0; r >= 0 && parse_peek(p) != ')'; n++) {
        struct str field, value;

        if (n >= ID_FIELDS)
            return parse_fail(p, "at most 30 fields");
        if (n > 0)
            r = parse_space(p);
        if (r >= 0)
            r = parse_string(p, "the name of a field", &field);
        if (r >= 0)
            r = parse_space(p);
        if (r >= 0)
            r = parse_id_value(p, &value);
        if (r >= 0 && str_ieq(field, STR("name")))
            *ret_name = value;
        if (r >= 0 && str_ieq(field, STR("version")))
            *ret_version = value;
    }
    return r < 0 ? r : parse_char(p, ')', "a closing parenthesis");
}

int cmd_id(void *session, struct str arguments)
{
    struct imap *s = session;
    struct str name = STR(""), version = STR("");
    int r = parse_space(&s->parse);

    if (r >= 0 && !parse_accept_word(&s->parse, STR("NIL")))
        r = parse_id(s, &name, &version);
    if (r >= 0)
        r = parse_end(&s->parse);
    if (r < 0)
        return r;
    if (name.len)
        LOG_EVENT(LOG_INFO, "imap_client", LOG_F("name", str_sub(name, 0, 100)),
                  LOG_F("version", str_sub(version, 0, 100)));
    (void)writer_text(&s->out, "* ID (\"name\" \"Pennypost\" \"version\" \"" PENNYPOST_VERSION "\")\r\n");
    return OUTCOME_OK;
}

int cmd_namespace(void *session, struct str arguments)
{
    struct imap *s = session;
    int r = parse_end(&s->parse);

    if (r < 0)
        return r;
    (void)writer_text(&s->out, "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
    return OUTCOME_OK;
}
