/*
 * The NOTIFY command (RFC 5465 3.1). Runs in imap-session as the user.
 */
#include <errno.h>
#include <string.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/fetch.h"
#include "handlers/imap/notify.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/update.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"

#define GROUPS_MAX 64u
#define NAMES_MAX  1024u /* of one group */

/* SP "(" fetch-att *(SP fetch-att) ")", kept as text. OUTCOME_NO when there is a literal in it. */
static int parse_fetch(struct imap *s, struct notify *n)
{
    struct parse *p = &s->parse;
    struct fetch f = {.s = s};
    struct str line, before;
    int r = parse_space(p);

    line = p->line;
    before = p->rest;
    if (r >= 0)
        r = fetch_parse(&f);
    if (r < 0)
        return r;
    if (p->line.ptr != line.ptr) {
        respond_code(s, "NOTIFICATIONOVERFLOW");
        return respond_no(s, "The names of header fields cannot be literals here");
    }
    free(n->fetch);
    n->fetch = str_dup(str_sub(before, 0, before.len - p->rest.len));
    return n->fetch ? 0 : -ENOMEM;
}

/* An event that nobody here can tell of (RFC 5465 3.1, 5.6, 5.7). */
static int refuse_event(struct imap *s, struct str name)
{
    respond_code(s, "BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange)");
    return respond_no(s, "The event %.*s is not one of this server", STR_ARG(str_sub(name, 0, 40)));
}

static int parse_event(struct imap *s, struct notify *n, bool is_selected, unsigned *events)
{
    static const struct {
        const char *name;
        unsigned bit;
    } known[] = {
        {"MessageNew", NOTIFY_NEW},   {"MessageExpunge", NOTIFY_EXPUNGE},          {"FlagChange", NOTIFY_FLAGS},
        {"MailboxName", NOTIFY_NAME}, {"SubscriptionChange", NOTIFY_SUBSCRIPTION},
    };
    struct parse *p = &s->parse;
    struct str name, before = p->rest;
    unsigned bit = 0;
    int r = parse_atom(p, "the name of an event", &name);

    if (r < 0)
        return r;
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (str_ieq(name, str_from(known[i].name)))
            bit = known[i].bit;
    if (bit == 0)
        return refuse_event(s, name);
    if (is_selected && !(bit & NOTIFY_MESSAGES)) {
        p->rest = before;
        return parse_fail(p, "an event of messages");
    }
    *events |= bit;
    if (bit == NOTIFY_NEW && is_selected && str_starts(p->rest, STR(" (")))
        return parse_fetch(s, n);
    return 0;
}

/* events = ( "(" event *(SP event) ")" ) / "NONE" */
static int parse_events(struct imap *s, struct notify *n, bool is_selected, unsigned *ret)
{
    struct parse *p = &s->parse;
    struct str before = p->rest;
    int r;

    *ret = 0;
    if (parse_accept_word(p, STR("NONE")))
        return 0;
    r = parse_char(p, '(', "events in parentheses or NONE");
    while (r == 0) {
        r = parse_event(s, n, is_selected, ret);
        if (r != 0 || !parse_accept(p, ' '))
            break;
    }
    if (r == 0)
        r = parse_char(p, ')', "a space or a closing parenthesis");
    /* RFC 5465 5 */
    if (r == 0 && (*ret & NOTIFY_MESSAGES) && (*ret & (NOTIFY_NEW | NOTIFY_EXPUNGE)) != (NOTIFY_NEW | NOTIFY_EXPUNGE)) {
        p->rest = before;
        return parse_fail(p, "MessageNew and MessageExpunge together");
    }
    return r;
}

static int add_name(struct parse *p, struct notify_group *g)
{
    struct str name;
    char **more;
    int r = parse_mailbox(p, &name);

    if (r < 0)
        return r;
    if (g->count >= NAMES_MAX)
        return parse_fail(p, "fewer mailboxes");
    more = reallocarray(g->names, g->count + 1, sizeof(*more));
    if (!more)
        return -ENOMEM;
    g->names = more;
    g->names[g->count] = str_dup(name);
    return g->names[g->count] ? (g->count++, 0) : -ENOMEM;
}

/* SP one-or-more-mailbox */
static int parse_names(struct parse *p, struct notify_group *g)
{
    int r = parse_space(p);

    if (r >= 0 && !parse_accept(p, '('))
        return add_name(p, g);
    while (r >= 0) {
        r = add_name(p, g);
        if (r < 0 || !parse_accept(p, ' '))
            break;
    }
    return r < 0 ? r : parse_char(p, ')', "a space or a closing parenthesis");
}

static int parse_selected(struct imap *s, struct notify *n, bool is_delayed)
{
    int r;

    if (n->is_selected_told)
        return parse_fail(&s->parse, "the selected mailbox once");
    n->is_selected_told = true;
    n->is_delayed = is_delayed;
    r = parse_space(&s->parse);
    return r < 0 ? r : parse_events(s, n, true, &n->selected_events);
}

static int parse_others(struct imap *s, struct notify *n)
{
    static const struct {
        const char *name;
        enum notify_filter filter;
    } filters[] = {
        {"inboxes", NOTIFY_PERSONAL}, {"personal", NOTIFY_PERSONAL},   {"subscribed", NOTIFY_SUBSCRIBED},
        {"subtree", NOTIFY_SUBTREE},  {"mailboxes", NOTIFY_MAILBOXES},
    };
    struct parse *p = &s->parse;
    struct notify_group *g, *more;
    size_t i = 0;
    int r = 0;

    while (i < ARRAY_SIZE(filters) && !parse_accept_word(p, str_from(filters[i].name)))
        i++;
    if (i == ARRAY_SIZE(filters))
        return parse_fail(p, "selected, selected-delayed, inboxes, personal, subscribed, subtree or mailboxes");
    if (n->group_count >= GROUPS_MAX)
        return parse_fail(p, "fewer groups");
    more = reallocarray(n->groups, n->group_count + 1, sizeof(*more));
    if (!more)
        return -ENOMEM;
    n->groups = more;
    g = &n->groups[n->group_count++];
    *g = (struct notify_group){.filter = filters[i].filter};
    if (g->filter == NOTIFY_SUBTREE || g->filter == NOTIFY_MAILBOXES)
        r = parse_names(p, g);
    if (r >= 0)
        r = parse_space(p);
    return r < 0 ? r : parse_events(s, n, false, &g->events);
}

/* event-group = "(" filter-mailboxes SP events ")" */
static int parse_group(struct imap *s, struct notify *n)
{
    struct parse *p = &s->parse;
    int r = parse_char(p, '(', "a group of events in parentheses");

    if (r < 0)
        return r;
    if (parse_accept_word(p, STR("SELECTED-DELAYED")))
        r = parse_selected(s, n, true);
    else if (parse_accept_word(p, STR("SELECTED")))
        r = parse_selected(s, n, false);
    else
        r = parse_others(s, n);
    return r != 0 ? r : parse_char(p, ')', "a closing parenthesis");
}

/* Behind "SET": [SP "STATUS"] SP event-groups */
static int parse_set(struct imap *s, struct notify *n, bool *ret_has_status)
{
    struct parse *p = &s->parse;
    int r = parse_space(p);

    *ret_has_status = r >= 0 && parse_accept_word(p, STR("STATUS"));
    if (*ret_has_status)
        r = parse_space(p);
    while (r == 0) {
        r = parse_group(s, n);
        if (r != 0 || !parse_accept(p, ' ') || parse_at_end(p))
            break;
    }
    return r != 0 ? r : parse_end(p);
}

/* RFC 5465 3.1: SET implies a NOOP. What has happened in the selected mailbox until now is told, also what the client
 * does not want to hear of from now on. */
static void tell_accumulated(struct imap *s)
{
    struct notify *n = s->notify;
    unsigned events = n->selected_events;
    bool is_selected_told = n->is_selected_told;

    n->is_selected_told = true;
    n->selected_events = NOTIFY_MESSAGES;
    update_send(s, false);
    n->is_selected_told = is_selected_told;
    n->selected_events = events;
}

int cmd_notify(void *session, struct str arguments)
{
    struct imap *s = session;
    struct notify *n = calloc(1, sizeof(*n)), *before;
    bool has_status = false, is_set;
    int r = n ? parse_space(&s->parse) : -ENOMEM;

    is_set = r >= 0 && parse_accept_word(&s->parse, STR("SET"));
    if (is_set)
        r = parse_set(s, n, &has_status);
    else if (r >= 0 && parse_accept_word(&s->parse, STR("NONE")))
        r = parse_end(&s->parse);
    else if (r >= 0)
        r = parse_fail(&s->parse, "SET or NONE");
    if (r != 0) {
        notify_free(n);
        return r;
    }
    if (is_set)
        notify_look(s); /* may put another one in its place */
    before = s->notify;
    s->notify = n;
    r = notify_begin(s);
    if (r < 0) { /* what was asked for before still holds */
        s->notify = before;
        notify_free(n);
        (void)respond_error(s, r, "Cannot watch so many mailboxes");
        respond_code(s, "NOTIFICATIONOVERFLOW");
        return OUTCOME_NO;
    }
    notify_free(before);
    if (has_status)
        notify_status(s);
    if (is_set)
        tell_accumulated(s);
    return OUTCOME_OK;
}
