/*
 * Names and subscriptions of watched mailboxes (see notify_names.h). Runs in imap-session as the user.
 */
#include "handlers/imap/notify_names.h"

#include <stdlib.h>
#include <string.h>

#include "handlers/imap/folders.h"
#include "handlers/imap/list.h"
#include "handlers/imap/respond.h"

/* What there is of a mailbox. */
enum rank {
    RANK_NOTHING,
    RANK_PARENT, /* only the parent of others */
    RANK_MAILBOX,
};

bool notify_is_below(struct str name, struct str top)
{
    return str_starts(name, top) && (name.len == top.len || name.ptr[top.len] == '/');
}

/* A name in two pieces. */
struct key {
    struct str head, tail;
};

static int compare_key(const void *a, const void *b)
{
    const struct key *key = a;
    struct str name = str_from(((const struct notify_seen *)b)->name);
    int r = str_cmp(key->head, str_sub(name, 0, key->head.len));

    return r ? r : str_cmp(key->tail, str_sub(name, key->head.len, name.len));
}

static const struct notify_seen *find_joined(const struct notify_seen *seen, size_t count, struct str head,
                                             struct str tail)
{
    struct key key = {.head = head, .tail = tail};

    return count ? bsearch(&key, seen, count, sizeof(*seen), compare_key) : NULL;
}

const struct notify_seen *notify_find(const struct notify_seen *seen, size_t count, struct str name)
{
    return find_joined(seen, count, name, STR(""));
}

static enum rank rank_of(const struct notify_seen *m)
{
    if (!m || (m->flags & MBOX_ENTRY_MISSING))
        return RANK_NOTHING;
    return m->flags & MBOX_ENTRY_NOSELECT ? RANK_PARENT : RANK_MAILBOX;
}

static bool is_there(const struct notify_seen *m)
{
    return rank_of(m) > RANK_NOTHING;
}

/* What the client knows of it: what was seen, and what the command in progress has made of that. RFC 5465 5 lets only
 * its own doing be omitted: what others do to the same names meanwhile differs from this and is told. */
static enum rank known_rank(const struct imap *s, struct str name, enum rank now)
{
    const struct own *own = &s->own;
    const struct notify *n = s->notify;
    enum rank before = rank_of(notify_find(n->seen, n->seen_count, name));
    enum rank at_most_parent = now < RANK_PARENT ? now : RANK_PARENT, moved;
    bool is_moved = own->kind == OWN_RENAMED;

    if (own->kind == OWN_CREATED && str_eq(name, own->name))
        return RANK_MAILBOX;
    if (own->kind == OWN_DELETED && str_eq(name, own->name))
        return at_most_parent; /* it may still have children */
    /* As it was seen under its old name; or what stood there, and was deleted by somebody else. */
    if (is_moved && notify_is_below(name, own->to)) {
        moved = rank_of(find_joined(n->seen, n->seen_count, own->name, str_sub(name, own->to.len, name.len)));
        return moved > before ? moved : before;
    }
    if (is_moved && notify_is_below(name, own->name))
        return at_most_parent;
    /* The parents of what comes and goes do so with it. */
    if (before < RANK_MAILBOX && ((own->kind == OWN_CREATED || own->kind == OWN_DELETED || is_moved) &&
                                  (notify_is_below(own->name, name) || (is_moved && notify_is_below(own->to, name)))))
        return at_most_parent;
    return before;
}

static bool was_subscribed(const struct imap *s, struct str name, const struct notify_seen *before)
{
    enum own_kind kind = s->own.kind;

    if ((kind == OWN_SUBSCRIBED || kind == OWN_UNSUBSCRIBED) && str_eq(name, s->own.name))
        return kind == OWN_SUBSCRIBED;
    return before && (before->flags & MBOX_ENTRY_SUBSCRIBED);
}

static void tell_gone(struct imap *s, struct str name)
{
    (void)writer_text(&s->out, "* LIST (\\NonExistent) \"/\" ");
    respond_mailbox(s, name);
    (void)writer_text(&s->out, "\r\n");
}

/* RFC 5465 5.4: the parent is affected too. One that is new itself tells that. */
static void tell_parent(struct imap *s, struct str name, const struct notify_seen *now, size_t count)
{
    struct str parent = folders_parent(name);
    const struct notify_seen *m = parent.len ? notify_find(now, count, parent) : NULL;

    if (is_there(m) && (m->events & NOTIFY_NAME) && known_rank(s, parent, rank_of(m)) > RANK_NOTHING)
        list_write(s, parent, parent);
}

const struct notify_seen *notify_old_name(const struct notify *n, const struct notify_seen *m,
                                          const struct notify_seen *now, size_t count)
{
    for (size_t i = 0; i < n->seen_count && m->has_id; i++) {
        const struct notify_seen *old = &n->seen[i];

        if (old->has_id && memcmp(old->mailboxid, m->mailboxid, sizeof(m->mailboxid)) == 0 &&
            !is_there(notify_find(now, count, str_from(old->name))))
            return old;
    }
    return NULL;
}

/* Is it one that the client does not know yet, and hears of? */
static bool is_news(const struct imap *s, const struct notify_seen *m)
{
    return (m->events & NOTIFY_NAME) && is_there(m) && known_rank(s, str_from(m->name), rank_of(m)) == RANK_NOTHING;
}

/* Was it renamed with a mailbox above it? Then that one tells (RFC 5465 5.4). */
static bool is_carried_along(const struct imap *s, struct str from, struct str to, const struct notify_seen *now,
                             size_t count)
{
    struct str old_parent = folders_parent(from), parent = folders_parent(to);
    const struct notify_seen *m, *old;

    if (!old_parent.len || !parent.len || from.len - old_parent.len != to.len - parent.len ||
        !str_eq(str_sub(from, old_parent.len, from.len), str_sub(to, parent.len, to.len)))
        return false;
    m = notify_find(now, count, parent);
    old = m && is_news(s, m) ? notify_old_name(s->notify, m, now, count) : NULL;
    return old && str_eq(str_from(old->name), old_parent);
}

/* A mailbox that was not there before, or under another name, or only as the parent of others; or is the latter now. */
static void tell_new(struct imap *s, const struct notify_seen *m, enum rank known, const struct notify_seen *now,
                     size_t count)
{
    const struct notify *n = s->notify;
    const struct notify_seen *old = known > RANK_NOTHING ? NULL : notify_old_name(n, m, now, count);
    struct str name = str_from(m->name);

    if (old && is_carried_along(s, str_from(old->name), name, now, count))
        return;
    list_write(s, name, old ? str_from(old->name) : name);
    if (!old)
        tell_parent(s, name, now, count);
}

/* What is listed now. */
static void tell_listed(struct imap *s, const struct notify_seen *now, size_t count)
{
    const struct notify *n = s->notify;

    for (size_t i = 0; i < count; i++) {
        const struct notify_seen *m = &now[i];
        struct str name = str_from(m->name);
        const struct notify_seen *before = notify_find(n->seen, n->seen_count, name);
        enum rank rank = rank_of(m), known = known_rank(s, name, rank);
        bool is_subscribed = (m->flags & MBOX_ENTRY_SUBSCRIBED) != 0;

        if ((m->events & NOTIFY_NAME) && rank > RANK_NOTHING && rank != known)
            tell_new(s, m, known, now, count);
        /* RFC 5465 6.4: the group of those that are subscribed hears of the end of that too. */
        if (((m->events | (before ? before->events : 0)) & NOTIFY_SUBSCRIPTION) &&
            is_subscribed != was_subscribed(s, name, before))
            list_write_subscribed(s, name);
    }
}

/* Is it told by its new name? */
static bool has_new_name(const struct imap *s, const struct notify_seen *old, const struct notify_seen *now,
                         size_t count)
{
    for (size_t k = 0; k < count && old->has_id; k++)
        if (now[k].has_id && memcmp(now[k].mailboxid, old->mailboxid, sizeof(old->mailboxid)) == 0 &&
            is_news(s, &now[k]))
            return true;
    return false;
}

/* What is listed no more, or only since it is subscribed. */
static void tell_unlisted(struct imap *s, const struct notify_seen *now, size_t count)
{
    const struct notify *n = s->notify;

    for (size_t i = 0; i < n->seen_count; i++) {
        const struct notify_seen *old = &n->seen[i];
        struct str name = str_from(old->name);
        const struct notify_seen *m = notify_find(now, count, name);
        bool was_there = known_rank(s, name, rank_of(m)) > RANK_NOTHING, is_renamed;
        /* Not there and not subscribed: it has no entry any more. */
        bool is_unsubscribed = !m && (old->events & NOTIFY_SUBSCRIPTION) && was_subscribed(s, name, old);

        if (is_there(m) || (!was_there && !is_unsubscribed))
            continue;
        is_renamed = has_new_name(s, old, now, count);
        if (was_there && !is_renamed && (old->events & NOTIFY_NAME)) {
            tell_gone(s, name);
            tell_parent(s, name, now, count);
        }
        if (is_unsubscribed && (is_renamed || !was_there))
            tell_gone(s, name);
    }
}

static void tell_lost(struct imap *s, struct str name)
{
    if (name.len && (notify_events_of(s->notify, name, 0) & NOTIFY_NAME))
        tell_gone(s, name);
}

/* Names that the command in progress has made, and that somebody else has taken away: no look has found them. */
static void tell_short_lived(struct imap *s, const struct notify_seen *now, size_t count)
{
    const struct notify *n = s->notify;
    const struct own *own = &s->own;
    struct str to = own->kind == OWN_RENAMED ? own->to : own->name;

    if (own->kind != OWN_CREATED && own->kind != OWN_RENAMED)
        return;
    if (!is_there(notify_find(now, count, to)) && !notify_find(n->seen, n->seen_count, to))
        tell_lost(s, to);
    for (size_t i = 0; i < n->seen_count && own->kind == OWN_RENAMED; i++) {
        struct str name = str_from(n->seen[i].name), rest = str_sub(name, own->name.len, name.len);

        if (rank_of(&n->seen[i]) == RANK_MAILBOX && rest.len && notify_is_below(name, own->name) &&
            !is_there(find_joined(now, count, to, rest)) && !find_joined(n->seen, n->seen_count, to, rest))
            tell_lost(s, folders_renamed(&s->parse, name, own->name, to));
    }
}

void notify_tell_names(struct imap *s, const struct notify_seen *now, size_t count)
{
    tell_listed(s, now, count);
    tell_unlisted(s, now, count);
    tell_short_lived(s, now, count);
}
