/*
 * Flag lists (see flags.h). Runs in imap-session as the user.
 */
#include "handlers/imap/flags.h"

#include <errno.h>
#include <string.h>

#include "shared/base/limits.h"
#include "shared/base/macros.h"

uint32_t flags_system(struct str name)
{
    static const struct {
        const char *name;
        uint32_t flag;
    } known[] = {
        {"\\Answered", MBOX_ANSWERED}, {"\\Flagged", MBOX_FLAGGED}, {"\\Deleted", MBOX_DELETED},
        {"\\Seen", MBOX_SEEN},         {"\\Draft", MBOX_DRAFT},
    };

    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (str_ieq(name, str_from(known[i].name)))
            return known[i].flag;
    return 0;
}

static int add_flag(struct imap *s, struct flag_list *list, struct str name)
{
    uint32_t system = flags_system(name);

    list->system |= system;
    if (system)
        return 0;
    if (!list->keywords)
        list->keywords = parse_alloc(&s->parse, LIMIT_KEYWORDS * sizeof(*list->keywords));
    if (!list->keywords)
        return -EMSGSIZE;
    if (list->keyword_count >= LIMIT_KEYWORDS)
        return parse_fail(&s->parse, "fewer keywords");
    list->keywords[list->keyword_count++] = name;
    return 0;
}

int flags_parse(struct imap *s, bool is_list, struct flag_list *ret)
{
    struct parse *p = &s->parse;
    bool has_list = parse_accept(p, '(');
    int r = 0;

    *ret = (struct flag_list){.system = 0};
    if (is_list && !has_list)
        return parse_fail(p, "a flag list in parentheses");
    if (has_list && parse_accept(p, ')'))
        return 0;
    do {
        struct str name;

        r = parse_flag(p, &name);
        if (r >= 0)
            r = add_flag(s, ret, name);
        if (r < 0)
            return r;
    } while (parse_accept(p, ' '));
    return has_list ? parse_char(p, ')', "a flag or a closing parenthesis") : 0;
}

int flags_resolve(struct imap *s, const struct flag_list *list, bool create, struct mbox_flags *ret)
{
    struct mbox_flags flags = {.system = list->system};

    for (size_t i = 0; i < list->keyword_count; i++) {
        unsigned n;
        int r = mbox_keyword_number(s->box, list->keywords[i], create, &n);

        if (r == -ENOENT && !create)
            continue; /* removing a keyword that no message can have */
        if (r < 0)
            return r;
        flags.keywords |= UINT64_C(1) << n;
    }
    *ret = flags;
    return 0;
}
