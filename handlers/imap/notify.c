/*
 * Watching other mailboxes (see notify.h). Runs in imap-session as the user; looks at the mailboxes through
 * shared/mbox.
 */
#include "handlers/imap/notify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "handlers/imap/fetch.h"
#include "handlers/imap/folders.h"
#include "handlers/imap/list.h"
#include "handlers/imap/notify_names.h"
#include "handlers/imap/respond.h"
#include "handlers/imap/status.h"
#include "shared/base/limits.h"
#include "shared/base/macros.h"

static void seen_finish(struct notify_seen *seen, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(seen[i].name);
    free(seen);
}

void notify_free(struct notify *n)
{
    if (!n)
        return;
    for (size_t i = 0; i < n->group_count; i++) {
        for (size_t k = 0; k < n->groups[i].count; k++)
            free(n->groups[i].names[k]);
        free(n->groups[i].names);
    }
    free(n->groups);
    free(n->fetch);
    seen_finish(n->seen, n->seen_count);
    free(n);
}

bool notify_wants(const struct imap *s, unsigned events)
{
    return !s->notify || (s->notify->is_selected_told && (s->notify->selected_events & events));
}

/* ---- the selected mailbox ---- */

void notify_fetch(struct imap *s, uint32_t first, uint32_t last)
{
    struct parse command = s->parse;
    struct fetch f = {.s = s};
    bool is_uid = s->is_uid;
    int r;

    if (!s->notify || !s->notify->fetch || first > last)
        return;
    /* The items are parsed each time: what they are lives in an arena, and the one of the command is in use. */
    parse_init(&s->parse, &s->in, &s->out);
    s->parse.is_utf8 = command.is_utf8;
    s->parse.rest = str_from(s->notify->fetch);
    s->is_uid = true; /* RFC 9051 7.5.2: what is sent unasked has its UID */
    r = fetch_parse(&f);
    message_init(&f.message, s);
    for (uint32_t seq = first; seq <= last && r >= 0; seq++) {
        struct mbox_info info;

        if (mbox_info(s->box, seq, &info) >= 0 && !numset_has(&s->own.added, info.uid))
            r = fetch_respond(&f, seq, false);
    }
    message_finish(&f.message);
    if (r == -ECONNABORTED && s->out.error == 0)
        s->out.error = r; /* in the middle of a literal */
    parse_finish(&s->parse);
    s->parse = command;
    s->is_uid = is_uid;
}

/* ---- the others ---- */

static bool is_in_group(const struct notify_group *g, struct str name, unsigned flags)
{
    if (g->filter == NOTIFY_PERSONAL)
        return true;
    if (g->filter == NOTIFY_SUBSCRIBED)
        return (flags & MBOX_ENTRY_SUBSCRIBED) != 0;
    for (size_t i = 0; i < g->count; i++) {
        struct str other = str_from(g->names[i]);

        if (g->filter == NOTIFY_SUBTREE ? notify_is_below(name, other) : str_eq(name, other))
            return true;
    }
    return false;
}

unsigned notify_events_of(const struct notify *n, struct str name, unsigned flags)
{
    unsigned events = 0;

    for (size_t i = 0; i < n->group_count; i++)
        if (is_in_group(&n->groups[i], name, flags))
            events |= n->groups[i].events;
    /* What can not be selected has no messages. */
    return flags & (MBOX_ENTRY_NOSELECT | MBOX_ENTRY_MISSING) ? events & ~(unsigned)NOTIFY_MESSAGES : events;
}

static int compare_seen(const void *a, const void *b)
{
    return strcmp(((const struct notify_seen *)a)->name, ((const struct notify_seen *)b)->name);
}

/* One mailbox as it is now. What it was before saves the look at what never changes. */
static int look_at(struct imap *s, struct notify_seen *now, const struct notify_seen *before)
{
    struct str name = str_from(now->name);
    int r = 0;

    /* What is only a parent now, or nothing, is not the mailbox of that name any more. */
    if (now->flags & (MBOX_ENTRY_NOSELECT | MBOX_ENTRY_MISSING))
        return 0;
    if (before && before->has_id) {
        now->has_id = true;
        memcpy(now->mailboxid, before->mailboxid, sizeof(now->mailboxid));
    }
    if (!(now->events & NOTIFY_MESSAGES) && (now->has_id || !(now->events & NOTIFY_NAME)))
        return 0;
    r = mbox_status(s->store, name, &now->status);
    now->has_status = r >= 0;
    now->has_id = now->has_id || r >= 0;
    if (r >= 0)
        memcpy(now->mailboxid, now->status.mailboxid, sizeof(now->mailboxid));
    /* Locked by somebody else just now, or not to be read: as it was, so that what happens meanwhile is told later. */
    if (r < 0 && before && before->has_status) {
        now->status = before->status;
        now->has_status = true;
    }
    return r == -ENOMEM ? r : 0;
}

static int take_all(struct imap *s, struct notify_seen **ret, size_t *ret_count)
{
    const struct notify *n = s->notify;
    _cleanup_folders_ struct folders f;
    struct notify_seen *seen;
    size_t count = 0, watched = 0;
    int r;

    r = list_names(s, &f);
    if (r < 0)
        return r;
    seen = calloc(f.count + 1, sizeof(*seen));
    if (!seen)
        return -ENOMEM;
    for (size_t i = 0; i < f.count && r >= 0; i++) {
        struct notify_seen *now = &seen[count++];

        *now = (struct notify_seen){.name = str_dup(folders_name(&f, i)), .flags = f.items[i].flags};
        r = now->name ? 0 : -ENOMEM;
        if (r < 0)
            break;
        now->events = notify_events_of(n, str_from(now->name), now->flags);
        watched += (now->events & NOTIFY_MESSAGES) != 0;
        if (watched > LIMIT_WATCHED)
            r = -ENOBUFS;
        else
            r = look_at(s, now, notify_find(n->seen, n->seen_count, str_from(now->name)));
    }
    if (r < 0) {
        seen_finish(seen, count);
        return r;
    }
    qsort(seen, count, sizeof(*seen), compare_seen);
    *ret = seen;
    *ret_count = count;
    return 0;
}

/* RFC 5465 5.1 to 5.3: what STATUS has to say, 0: nothing. */
static unsigned changed_items(const struct imap *s, const struct notify_seen *now, const struct notify_seen *before)
{
    const struct mbox_status *a = &before->status, *b = &now->status;
    bool has_condstore = (s->enabled & IMAP_CONDSTORE) != 0;
    unsigned items = 0;

    if (!before->has_status || !now->has_status)
        return 0;
    if ((now->events & (NOTIFY_NEW | NOTIFY_EXPUNGE)) && (a->uidnext != b->uidnext || a->messages != b->messages))
        items |= STATUS_MESSAGES | STATUS_UIDNEXT | (has_condstore ? STATUS_HIGHESTMODSEQ : 0);
    if ((now->events & NOTIFY_FLAGS) && a->highestmodseq != b->highestmodseq && has_condstore)
        items |= STATUS_HIGHESTMODSEQ | STATUS_UIDVALIDITY;
    if ((now->events & NOTIFY_FLAGS) && a->unseen != b->unseen)
        items |= STATUS_UNSEEN;
    if (a->uidvalidity != b->uidvalidity)
        items |= STATUS_UIDVALIDITY | STATUS_UIDNEXT | STATUS_MESSAGES;
    return items;
}

/* Has only the client itself changed it? The store counts each change in the MODSEQ and each new message in UIDNEXT;
 * where somebody else's hides behind its own, both are told: that SHOULD be omitted, the other must not (RFC 5465 5).
 */
static bool is_own_doing(const struct notify_seen *now, const struct notify_seen *before)
{
    const struct mbox_status *a = &before->status, *b = &now->status;
    uint64_t removed = before->own_removed == NOTIFY_OWN_ALL ? a->messages : before->own_removed;

    return before->own_changes > 0 && a->uidvalidity == b->uidvalidity &&
           b->highestmodseq == a->highestmodseq + before->own_changes && b->uidnext == a->uidnext + before->own_added &&
           b->messages + removed == a->messages + before->own_added;
}

static void tell_messages(struct imap *s, const struct notify_seen *now, const struct notify_seen *before)
{
    struct str name = str_from(now->name);
    unsigned items = changed_items(s, now, before);

    /* RFC 5465 6: of the selected mailbox only its own group tells. */
    if (items && !is_own_doing(now, before) && !(s->box && str_eq(mbox_name(s->box), name)))
        status_write(s, name, &now->status, items);
}

static int look(struct imap *s, bool is_told)
{
    struct notify *n = s->notify;
    struct notify_seen *now;
    size_t count;
    int r = take_all(s, &now, &count);

    if (r < 0)
        return r;
    if (is_told)
        notify_tell_names(s, now, count);
    for (size_t i = 0; i < count && is_told; i++) {
        const struct notify_seen *before = notify_find(n->seen, n->seen_count, str_from(now[i].name));

        before = before ? before : notify_old_name(n, &now[i], now, count);
        if (before)
            tell_messages(s, &now[i], before);
    }
    seen_finish(n->seen, n->seen_count);
    n->looked = clock_monotonic_ms();
    n->seen = now;
    n->seen_count = count;
    return 0;
}

int notify_begin(struct imap *s)
{
    return s->notify->group_count > 0 ? look(s, false) : 0;
}

void notify_look(struct imap *s)
{
    if (!s->notify || s->notify->group_count == 0 || s->is_leaving || look(s, true) >= 0)
        return;
    /* RFC 5465 5.8: as after NOTIFY NONE. */
    (void)writer_text(&s->out, "* OK [NOTIFICATIONOVERFLOW] The mailboxes cannot be watched any more\r\n");
    notify_free(s->notify);
    s->notify = calloc(1, sizeof(*s->notify));
}

static struct notify_seen *find_own(struct imap *s, struct str name)
{
    struct notify *n = s->notify;

    for (size_t i = 0; n && i < n->seen_count; i++)
        if (str_eq(str_from(n->seen[i].name), name))
            return &n->seen[i];
    return NULL;
}

void notify_own(struct imap *s, struct str name, uint64_t added, uint64_t removed)
{
    struct notify_seen *m = find_own(s, name);

    if (!m)
        return;
    m->own_changes++;
    m->own_added = added;
    m->own_removed = removed;
}

void notify_own_name(struct imap *s, enum own_kind kind, struct str name, struct str to)
{
    s->own.kind = kind;
    s->own.name = name;
    s->own.to = to;
}

void notify_leave(struct imap *s)
{
    static const struct mbox_changes silently = {.context = NULL};
    struct notify_seen *m = s->box ? find_own(s, mbox_name(s->box)) : NULL;
    struct mbox_status status;

    if (!m)
        return;
    /* What nobody wanted to hear of while it was selected is not told now either. */
    if (!notify_wants(s, NOTIFY_MESSAGES))
        (void)mbox_poll(s->box, false, &silently);
    if (m->has_status && mbox_view_status(s->box, &status) >= 0)
        m->status = status;
}

void notify_status(struct imap *s)
{
    for (size_t i = 0; i < s->notify->seen_count; i++) {
        const struct notify_seen *m = &s->notify->seen[i];
        unsigned items = 0;

        if (!m->has_status || (s->box && str_eq(mbox_name(s->box), str_from(m->name))))
            continue;
        if (m->events & NOTIFY_NEW)
            items |= STATUS_MESSAGES | STATUS_UIDNEXT | STATUS_UIDVALIDITY;
        if (m->events & NOTIFY_FLAGS)
            items |= STATUS_UIDVALIDITY | STATUS_HIGHESTMODSEQ;
        if (items)
            status_write(s, str_from(m->name), &m->status, items);
    }
}
