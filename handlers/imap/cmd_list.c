/*
 * LIST and LSUB (RFC 9051 6.3.9, RFC 3501 6.3.9, RFC 5258, RFC 5819). Runs in imap-session as the user.
 */
#include <errno.h>

#include "handlers/imap/commands.h"
#include "handlers/imap/folders.h"
#include "handlers/imap/list.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/special.h"
#include "handlers/imap/status.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"

#define PATTERNS 64u /* of one LIST */

struct list {
    struct imap *s;
    struct folders folders;
    struct special special;
    bool is_lsub;
    bool is_extended; /* one of the forms of RFC 5258 */
    bool selects_subscribed;
    bool selects_special;
    bool matches_recursively;
    bool returns_subscribed;
    bool returns_status;
    struct str old_name; /* null, or what the client called the one mailbox that is listed */
    unsigned status;
    struct str patterns[PATTERNS]; /* with the reference in front */
    size_t pattern_count;
    struct below {
        struct str *names; /* subscribed ones, sorted */
        size_t count;
    } all, unmatched; /* all of them, and those that match no pattern */
};

/* "(" [option *(SP option)] ")" before the reference. */
static int parse_select_options(struct list *l)
{
    struct parse *p = &l->s->parse;

    if (!parse_accept(p, '('))
        return 0;
    l->is_extended = true;
    while (!parse_accept(p, ')')) {
        if (parse_accept_word(p, STR("SUBSCRIBED")))
            l->selects_subscribed = true;
        else if (parse_accept_word(p, STR("RECURSIVEMATCH")))
            l->matches_recursively = true;
        else if (parse_accept_word(p, STR("SPECIAL-USE")))
            l->selects_special = true;
        else if (!parse_accept_word(p, STR("REMOTE")))
            return parse_fail(p, "SUBSCRIBED, RECURSIVEMATCH, SPECIAL-USE or REMOTE");
        if (parse_peek(p) != ')' && !parse_accept(p, ' '))
            return parse_fail(p, "a space or a closing parenthesis");
    }
    /* RFC 5258 3.1: RECURSIVEMATCH modifies an option that selects. */
    if (l->matches_recursively && !l->selects_subscribed)
        return parse_fail(p, "SUBSCRIBED together with RECURSIVEMATCH");
    return parse_space(p);
}

/* SP "RETURN" SP "(" ... ")" */
static int parse_return_options(struct list *l)
{
    struct parse *p = &l->s->parse;
    int r;

    if (parse_at_end(p))
        return 0;
    r = parse_space(p);
    if (r >= 0 && !parse_accept_word(p, STR("RETURN")))
        r = parse_fail(p, "RETURN or the end of the command");
    if (r >= 0)
        r = parse_space(p);
    if (r >= 0)
        r = parse_char(p, '(', "a parenthesised list of return options");
    l->is_extended = true;
    while (r >= 0 && !parse_accept(p, ')')) {
        if (parse_accept_word(p, STR("SUBSCRIBED"))) {
            l->returns_subscribed = true;
        } else if (parse_accept_word(p, STR("STATUS"))) {
            l->returns_status = true;
            r = parse_space(p);
            if (r >= 0)
                r = status_parse(l->s, &l->status);
        } else if (!parse_accept_word(p, STR("CHILDREN")) && !parse_accept_word(p, STR("SPECIAL-USE"))) {
            return parse_fail(p, "SUBSCRIBED, CHILDREN, SPECIAL-USE or STATUS");
        }
        if (r >= 0 && parse_peek(p) != ')' && !parse_accept(p, ' '))
            r = parse_fail(p, "a space or a closing parenthesis");
    }
    return r;
}

/* The reference and a pattern make one pattern; the reference is a name or a beginning of names (RFC 9051 6.3.9). */
static int add_pattern(struct list *l, struct str reference, struct str pattern)
{
    char *whole;
    size_t len = reference.len + pattern.len;

    /* RFC 9051 6.3.9: what cannot be the name of a mailbox matches none. */
    if (!reference.ptr || !pattern.ptr)
        return 0;
    /* RFC 9051 6.3.9: the extended syntax ignores empty patterns. */
    if (!pattern.len && l->is_extended)
        return 0;
    if (l->pattern_count >= PATTERNS)
        return parse_fail(&l->s->parse, "fewer patterns");
    whole = parse_alloc(&l->s->parse, len + 1);
    if (!whole)
        return -EMSGSIZE;
    if (reference.len)
        memcpy(whole, reference.ptr, reference.len);
    if (pattern.len)
        memcpy(whole + reference.len, pattern.ptr, pattern.len);
    /* INBOX in any case (RFC 9051 5.1), also in front of its children. */
    if (len >= 5 && str_ieq((struct str){whole, 5}, STR("INBOX")) && (len == 5 || whole[5] == '/'))
        memcpy(whole, "INBOX", 5);
    l->patterns[l->pattern_count++] = (struct str){whole, len};
    return 0;
}

/* mbox-or-pat = list-mailbox / "(" list-mailbox *(SP list-mailbox) ")"; *ret_is_root: the request for the root. */
static int parse_patterns(struct list *l, struct str reference, bool *ret_is_root)
{
    struct parse *p = &l->s->parse;
    struct str pattern;
    int r;

    *ret_is_root = false;
    if (l->is_lsub || !parse_accept(p, '(')) {
        r = parse_list_mailbox(p, &pattern);
        *ret_is_root = r >= 0 && pattern.ptr && pattern.len == 0;
        return r < 0 ? r : add_pattern(l, reference, pattern);
    }
    l->is_extended = true;
    do {
        r = parse_list_mailbox(p, &pattern);
        /* RFC 5258 3: one of several that is empty is ignored. */
        if (r >= 0 && pattern.len)
            r = add_pattern(l, reference, pattern);
    } while (r >= 0 && parse_accept(p, ' '));
    return r < 0 ? r : parse_char(p, ')', "a space or a closing parenthesis");
}

static bool matches(const struct list *l, struct str name)
{
    for (size_t i = 0; i < l->pattern_count; i++)
        if (folders_match(l->patterns[i], name))
            return true;
    return false;
}

static int compare_names(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

/* The selection options, RECURSIVEMATCH and REMOTE aside. */
static bool is_selected(const struct list *l, struct str name, unsigned flags)
{
    bool is_there =
        l->selects_subscribed || l->is_lsub ? (flags & MBOX_ENTRY_SUBSCRIBED) != 0 : !(flags & MBOX_ENTRY_MISSING);

    return is_there && (!l->selects_special || special_of(&l->special, name) >= 0);
}

/* Collects the selected mailboxes in order: what makes their parents worth naming. */
static int collect_below(struct list *l)
{
    l->all.names = calloc(l->folders.count + 1, sizeof(*l->all.names));
    l->unmatched.names = calloc(l->folders.count + 1, sizeof(*l->unmatched.names));
    if (!l->all.names || !l->unmatched.names)
        return -ENOMEM;
    for (size_t i = 0; i < l->folders.count; i++) {
        struct str name = folders_name(&l->folders, i);

        if (!is_selected(l, name, l->folders.items[i].flags))
            continue;
        l->all.names[l->all.count++] = name;
        if (!matches(l, name))
            l->unmatched.names[l->unmatched.count++] = name;
    }
    qsort(l->all.names, l->all.count, sizeof(*l->all.names), compare_names);
    qsort(l->unmatched.names, l->unmatched.count, sizeof(*l->unmatched.names), compare_names);
    return 0;
}

/* Is one of them below this name? */
static bool has_below(const struct below *b, struct str name)
{
    size_t low = 0, high = b->count;

    /* The first that is not before the name and its separator. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct str other = b->names[middle];
        int c = str_cmp(str_sub(other, 0, name.len), name);

        if (c < 0 || (c == 0 && (other.len == name.len || (unsigned char)other.ptr[name.len] < '/')))
            low = middle + 1;
        else
            high = middle;
    }
    return low < b->count && b->names[low].len > name.len + 1 && str_starts(b->names[low], name) &&
           b->names[low].ptr[name.len] == '/';
}

static void write_attribute(struct imap *s, const char **gap, const char *attribute)
{
    (void)writer_printf(&s->out, "%s%s", *gap, attribute);
    *gap = " ";
}

/* Does the error mean that SELECT would fail, now and later? */
static bool is_unselectable(int error)
{
    return error == -ENOENT || error == -EACCES || error == -EPERM || error == -ELOOP || error == -EBADMSG;
}

/* mbox-list-extended (RFC 9051 9) and the end of the line; never both items. */
static void write_extended(struct list *l, bool has_childinfo)
{
    struct imap *s = l->s;

    if (has_childinfo)
        (void)writer_text(&s->out, " (\"CHILDINFO\" (\"SUBSCRIBED\"))");
    if (l->old_name.ptr) { /* RFC 9051 6.3.9.7 */
        (void)writer_text(&s->out, " (\"OLDNAME\" (");
        respond_mailbox(s, l->old_name);
        (void)writer_text(&s->out, "))");
    }
    (void)writer_text(&s->out, "\r\n");
}

static void write_entry(struct list *l, struct str name, unsigned flags, bool wants_status, bool has_childinfo)
{
    struct imap *s = l->s;
    struct mbox_status status;
    const char *gap = "";
    int r = -ENOENT;

    /* RFC 9051 6.3.9.2: the STATUS of what cannot be selected is left out, and the LIST response says so. */
    if (wants_status && !(flags & (MBOX_ENTRY_NOSELECT | MBOX_ENTRY_MISSING))) {
        r = mbox_status(s->store, name, &status);
        flags |= is_unselectable(r) ? MBOX_ENTRY_NOSELECT : 0;
    }
    (void)writer_printf(&s->out, "* %s (", l->is_lsub ? "LSUB" : "LIST");
    /* RFC 5258 3: \NonExistent implies \Noselect; clients that did not ask in the new way know only the latter. */
    if ((flags & MBOX_ENTRY_MISSING) && l->is_extended)
        write_attribute(s, &gap, "\\NonExistent");
    else if (flags & (MBOX_ENTRY_NOSELECT | MBOX_ENTRY_MISSING))
        write_attribute(s, &gap, "\\Noselect");
    if (!l->is_lsub)
        write_attribute(s, &gap, flags & MBOX_ENTRY_HAS_CHILDREN ? "\\HasChildren" : "\\HasNoChildren");
    if ((flags & MBOX_ENTRY_SUBSCRIBED) && (l->returns_subscribed || l->selects_subscribed))
        write_attribute(s, &gap, "\\Subscribed");
    /* RFC 6154 2: the attributes may be in every LIST response. */
    for (unsigned use = 0; use < SPECIAL_USES && !l->is_lsub; use++)
        if (l->special.names[use].len && str_eq(l->special.names[use], name))
            write_attribute(s, &gap, special_attribute(use));
    (void)writer_text(&s->out, ") \"/\" ");
    respond_mailbox(s, name);
    write_extended(l, has_childinfo);
    if (r >= 0)
        status_write(s, name, &status, l->status);
}

static void list_all(struct list *l)
{
    for (size_t i = 0; i < l->folders.count; i++) {
        struct str name = folders_name(&l->folders, i);
        unsigned flags = l->folders.items[i].flags;
        bool is_wanted = is_selected(l, name, flags), below = false;

        if (!matches(l, name))
            continue;
        /* RFC 5258 3.5: who is wanted tells of every child that is, the others of those that are not named themselves.
         */
        if (l->matches_recursively || (l->is_lsub && !is_wanted))
            below = has_below(is_wanted ? &l->all : &l->unmatched, name);
        if (!is_wanted && !below)
            continue;
        /* RFC 3501 6.3.9: LSUB "%" names the parents of subscribed mailboxes as \Noselect. */
        if (l->is_lsub && !is_wanted)
            flags |= MBOX_ENTRY_NOSELECT;
        /* RFC 5819 3: no STATUS of what is named for its children only. */
        write_entry(l, name, flags, l->returns_status && is_wanted, below && !l->is_lsub);
    }
}

/* The special-use mailboxes that nobody has used yet are listed as if they were there. */
static int offer_special(struct list *l)
{
    int r = 0;

    for (unsigned i = 0; i < SPECIAL_USES && r >= 0; i++) {
        ptrdiff_t at = l->special.names[i].len ? folders_find(&l->folders, l->special.names[i]) : 0;

        if (at < 0)
            r = folders_add(&l->folders, l->special.names[i], 0);
        else if (l->special.names[i].len)
            l->folders.items[at].flags &= ~(unsigned)(MBOX_ENTRY_MISSING | MBOX_ENTRY_NOSELECT);
    }
    return r;
}

/* All mailboxes there are. */
static int load(struct list *l)
{
    int r = special_load(l->s, &l->special);

    if (r >= 0)
        r = folders_load(l->s, &l->folders);
    return r < 0 ? r : offer_special(l);
}

static int list_command(struct list *l)
{
    struct imap *s = l->s;
    struct str reference;
    bool is_root = false;
    int r = parse_space(&s->parse);

    if (r >= 0 && !l->is_lsub)
        r = parse_select_options(l);
    if (r >= 0)
        r = parse_reference(&s->parse, &reference);
    if (r >= 0)
        r = parse_space(&s->parse);
    if (r >= 0)
        r = parse_patterns(l, reference, &is_root);
    if (r >= 0 && !l->is_lsub)
        r = parse_return_options(l);
    if (r >= 0)
        r = parse_end(&s->parse);
    if (r < 0)
        return r;
    /* RFC 9051 6.3.9: an empty pattern asks for the separator and the root of the reference. */
    if (is_root && !l->is_lsub && !l->is_extended) {
        (void)writer_text(&s->out, "* LIST (\\Noselect) \"/\" \"\"\r\n");
        return OUTCOME_OK;
    }
    r = load(l);
    if (r >= 0 && (l->is_lsub || l->matches_recursively))
        r = collect_below(l);
    if (r < 0)
        return respond_error(s, r, "Cannot list");
    list_all(l);
    return OUTCOME_OK;
}

static void finish(struct list *l)
{
    folders_finish(&l->folders);
    special_finish(&l->special);
    free(l->all.names);
    free(l->unmatched.names);
}

static int run(struct imap *s, bool is_lsub)
{
    struct list l = {.s = s, .is_lsub = is_lsub};
    int r;

    folders_init(&l.folders);
    r = list_command(&l);
    finish(&l);
    return r;
}

static void write_one(struct list *l, struct str name)
{
    ptrdiff_t at = -1;

    folders_init(&l->folders);
    if (load(l) >= 0)
        at = folders_find(&l->folders, name);
    if (at >= 0) {
        write_entry(l, name, l->folders.items[at].flags, false, false);
    } else {
        (void)writer_text(&l->s->out, "* LIST () \"/\" ");
        respond_mailbox(l->s, name);
        write_extended(l, false);
    }
    finish(l);
}

void list_write(struct imap *s, struct str name, struct str spelled)
{
    struct list l = {.s = s, .is_extended = true, .old_name = str_eq(name, spelled) ? STR_NULL : spelled};

    write_one(&l, name);
}

void list_write_subscribed(struct imap *s, struct str name)
{
    struct list l = {.s = s, .is_extended = true, .returns_subscribed = true};

    write_one(&l, name);
}

int list_names(struct imap *s, struct folders *f)
{
    struct list l = {.s = s};
    int r;

    folders_init(&l.folders);
    r = load(&l);
    *f = l.folders;
    folders_init(&l.folders);
    finish(&l);
    return r;
}

int cmd_list(void *session, struct str arguments)
{
    return run(session, false);
}

int cmd_lsub(void *session, struct str arguments)
{
    return run(session, true);
}
