/*
 * QUOTA (RFC 9208, RFC 2087): GETQUOTA, GETQUOTAROOT, SETQUOTA. Runs in imap-session as the user.
 */
#include <errno.h>
#include <inttypes.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/quota.h"
#include "handlers/imap/respond.h"

#define UNIT 1024u /* of STORAGE, RFC 9208 5.1 */

static void write_quota(struct imap *s, enum quota_root root, const struct quota *quota)
{
    uint64_t used = quota->used / UNIT + (quota->used % UNIT ? 1 : 0);

    (void)writer_printf(&s->out, "* QUOTA %s (STORAGE %" PRIu64 " %" PRIu64 ")\r\n", quota_name(root), used,
                        quota->limit / UNIT);
}

static int parse_root(struct imap *s, struct str *ret)
{
    int r = parse_space(&s->parse);

    return r < 0 ? r : parse_astring(&s->parse, "the name of a quota root", ret);
}

int cmd_getquota(void *session, struct str arguments)
{
    struct imap *s = session;
    enum quota_root root;
    struct quota quota;
    struct str name;
    int r = parse_root(s, &name);

    if (r >= 0)
        r = parse_end(&s->parse);
    if (r < 0)
        return r;
    if (quota_find(name, &root) < 0 || quota_look(s, root, &quota) < 0) {
        respond_code(s, "NONEXISTENT");
        return respond_no(s, "There is no such quota root");
    }
    write_quota(s, root, &quota);
    return OUTCOME_OK;
}

/* The mailbox need not be there (RFC 9208 4.1.2). */
int cmd_getquotaroot(void *session, struct str arguments)
{
    struct imap *s = session;
    struct quota quotas[QUOTA_ROOTS];
    bool is_told[QUOTA_ROOTS];
    struct str mailbox;
    int r = parse_space(&s->parse);

    if (r >= 0)
        r = parse_mailbox(&s->parse, &mailbox);
    if (r >= 0)
        r = parse_end(&s->parse);
    if (r < 0)
        return r;
    (void)writer_text(&s->out, "* QUOTAROOT ");
    respond_mailbox(s, mailbox);
    for (unsigned i = 0; i < QUOTA_ROOTS; i++) {
        is_told[i] = quota_holds(s, i, mailbox) && quota_look(s, i, &quotas[i]) >= 0;
        if (is_told[i])
            (void)writer_printf(&s->out, " %s", quota_name(i));
    }
    (void)writer_text(&s->out, "\r\n");
    for (unsigned i = 0; i < QUOTA_ROOTS; i++)
        if (is_told[i])
            write_quota(s, i, &quotas[i]);
    return OUTCOME_OK;
}

/* QUOTASET is not announced, but RFC 2087 knew no such distinction: a syntax that is right is refused in words. */
int cmd_setquota(void *session, struct str arguments)
{
    struct imap *s = session;
    struct parse *p = &s->parse;
    struct str name;
    uint64_t limit;
    int r = parse_root(s, &name);

    if (r >= 0)
        r = parse_space(p);
    if (r >= 0)
        r = parse_char(p, '(', "a parenthesised list of limits");
    while (r >= 0 && !parse_accept(p, ')')) {
        r = parse_atom(p, "the name of a resource", &name);
        if (r >= 0)
            r = parse_space(p);
        if (r >= 0)
            r = parse_number64(p, "a limit", &limit);
        if (r >= 0 && parse_peek(p) != ')' && !parse_accept(p, ' '))
            r = parse_fail(p, "a space or a closing parenthesis");
    }
    if (r >= 0)
        r = parse_end(p);
    if (r < 0)
        return r;
    respond_code(s, "NOPERM");
    return respond_no(s, "Limits are set by the administrator");
}
