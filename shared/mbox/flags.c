/*
 * Changing flags: into the state log, durably, and into the index; into the mbox file later (flush.c). Runs as the user
 * under BOX_STATE alone: nobody waits for the mbox file.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/macros.h"
#include "shared/mbox/log_read.h"
#include "shared/mbox/view.h"

#define GROUPS_MAX 64 /* different results of one command; more go into log entries of their own */

struct flag_change {
    struct mbox *v;
    const struct numset *uids;
    enum mbox_flags_mode mode;
    struct mbox_flags flags;
    uint64_t unchanged_since;
    uint64_t modseq;
    const struct index *records; /* whose mapping is read */
    struct numset modified;      /* UIDs that fail the test of unchanged_since */
    struct {
        struct log_flags flags;
        struct numset uids;
    } groups[GROUPS_MAX];
    size_t count;
    uint64_t visited; /* messages that would change */
    struct buf log;
};

static struct index_flags apply(const struct flag_change *c, const struct index_flags *before)
{
    const uint8_t flags = (uint8_t)c->flags.system;
    const uint64_t keywords = c->flags.keywords;

    switch (c->mode) {
    case MBOX_FLAGS_ADD:
        return (struct index_flags){before->keywords | keywords, before->flags | flags};
    case MBOX_FLAGS_REMOVE:
        return (struct index_flags){before->keywords & ~keywords, before->flags & (uint8_t)~flags};
    case MBOX_FLAGS_SET:
        break;
    }
    return (struct index_flags){keywords, flags};
}

static int write_group(struct flag_change *c, size_t i)
{
    int r = log_put_flags(&c->log, c->modseq, &c->groups[i].flags, &c->groups[i].uids);

    numset_clear(&c->groups[i].uids);
    return r;
}

static bool is_group(const struct flag_change *c, size_t i, const struct log_flags *flags)
{
    return i < c->count && c->groups[i].flags.system == flags->system &&
           c->groups[i].flags.keywords == flags->keywords && c->groups[i].flags.changed == flags->changed;
}

/* Messages that end up with the same flags for the same reason are logged together. */
static int group(struct flag_change *c, const struct index_run *run)
{
    const struct log_flags flags = {
        .system = run->after.flags,
        .keywords = run->after.keywords,
        .changed = log_changed(run->after.flags ^ run->before.flags, run->after.keywords ^ run->before.keywords)};
    size_t i;
    int r;

    for (i = 0; i < c->count; i++)
        if (is_group(c, i, &flags))
            break;
    if (i == GROUPS_MAX) {
        i = run->uid % GROUPS_MAX;
        if ((r = write_group(c, i)) < 0)
            return r;
    }
    if (i == c->count)
        c->count++;
    c->groups[i].flags = flags;
    return numset_add(&c->groups[i].uids, run->uid, run->uid + (uint32_t)(run->count - 1));
}

/* The view's mapping where it is of the same file and as whole: its pages were touched already, when the client looked
 * at flags. */
static const struct index *records_of(const struct flag_change *c)
{
    const struct index *box = &c->v->b->ix, *view = &c->v->ix;
    bool is_same = !c->v->is_damaged && view->ino == box->ino && view->mapped >= index_bytes(box->head->count) &&
                   view->head->magic == box->head->magic && view->head->count == box->head->count;

    return is_same ? view : box;
}

/* Did the search for the range go by damage? A UID that is not what it was leads behind the first message, or to it. */
static bool is_misled(const struct index *ix, uint64_t from, uint64_t at)
{
    return (at > from && !index_brief_is_valid(index_brief(ix, at - 1))) ||
           (at < ix->head->count && !index_brief_is_valid(index_brief(ix, at)));
}

static bool is_modified(const struct flag_change *c, uint32_t uid)
{
    return c->modified.count > 0 && numset_has(&c->modified, uid);
}

/* Adds those that are like the first, up to the UID `last` and the record `end`. One that is damaged is not like it. */
static void extend(const struct flag_change *c, struct index_run *run, uint32_t last, uint64_t end, bool is_known)
{
    static const struct index_brief alike = {.uid = UINT32_MAX, .flags = UINT8_MAX, .bits = INDEX_EXPUNGED};
    const uint64_t mask = index_brief_state(&alike), state = run->uid | (uint64_t)run->before.flags << 32;
    const uint64_t count = end - run->at, most = (uint64_t)last - run->uid + 1;
    const uint64_t keywords = run->before.keywords;
    const struct index_brief *brief = index_brief(c->records, run->at);
    uint64_t n = 1, newest = run->newest;

    for (; n < most && n < count; n++) {
        brief = (run->at + n) % INDEX_GROUP > 0 ? brief + 1 : index_brief(c->records, run->at + n);
        if ((index_brief_state(brief) & mask) != state + n || brief->keywords != keywords ||
            (!is_known && !index_brief_is_valid(brief)) || is_modified(c, brief->uid))
            break;
        newest = brief->modseq > newest ? brief->modseq : newest;
    }
    run->count = n;
    run->newest = newest;
}

/* Calls for all messages that are meant and would change. is_known: they have been looked at under this lock already;
 * what was cut off since reads as zeros, see mbox_guard(), and so has UIDs that are too low. */
static int each(struct flag_change *c, bool is_known, int (*visit)(struct flag_change *c, const struct index_run *run))
{
    struct box *b = c->v->b;
    uint64_t at = 0, count = b->ix.head->count;
    int r = 0;

    for (size_t i = 0; r == 0 && i < c->uids->count; i++) {
        const struct numrange *range = &c->uids->ranges[i];
        uint64_t from = at;

        at = index_find(&b->ix, at, range->first);
        if (!is_known && is_misled(&b->ix, from, at))
            return index_spoil(b);
        while (r == 0 && at < count) {
            const struct index_brief brief = *index_brief(c->records, at);
            struct index_run run = {.at = at,
                                    .count = 1,
                                    .newest = brief.modseq,
                                    .uid = brief.uid,
                                    .before = {brief.keywords, brief.flags}};

            if (brief.uid < range->first || (!is_known && !index_brief_is_valid(&brief)))
                return index_spoil(b); /* before anything of it gets into the log, or looks whole again */
            if (brief.uid > range->last)
                break;
            if (!(brief.bits & INDEX_EXPUNGED) && !is_modified(c, brief.uid)) {
                extend(c, &run, range->last, count, is_known);
                run.after = apply(c, &run.before);
                if (run.after.flags != run.before.flags || run.after.keywords != run.before.keywords) {
                    c->visited += run.count;
                    r = visit(c, &run);
                }
            }
            at += run.count;
        }
    }
    return r;
}

/* What the file says of keywords, and the size that \Deleted adds up, stand in the rest of the record. */
static bool wants_rest(const struct index_run *run)
{
    return run->after.keywords != run->before.keywords || ((run->after.flags ^ run->before.flags) & MBOX_DELETED);
}

/* Our MODSEQ is going to hide somebody else's: what that one changed is still to be told. */
static int keep_untold(struct flag_change *c, const struct index_run *run)
{
    int r = 0;

    for (uint64_t i = 0; r == 0 && run->newest > c->v->modseq && i < run->count; i++) {
        uint64_t modseq = index_brief(c->records, run->at + i)->modseq;
        uint32_t uid = run->uid + (uint32_t)i;

        if (modseq > c->v->modseq && view_is_foreign(c->v, modseq))
            r = numset_add(&c->v->untold, uid, uid);
    }
    return r;
}

/* What goes into the log can be put into the index afterwards. */
static int look_at_rests(struct flag_change *c, const struct index_run *run)
{
    _uninitialized_ struct index_record rec;

    for (uint64_t i = 0; i < run->count; i++) {
        rec = index_load(&c->v->b->ix, run->at + i);
        if (!index_is_valid(&rec))
            return index_spoil(c->v->b);
    }
    return 0;
}

static int log_visit(struct flag_change *c, const struct index_run *run)
{
    int r = wants_rest(run) ? look_at_rests(c, run) : 0;

    if (r == 0)
        r = keep_untold(c, run);
    return r < 0 ? r : group(c, run);
}

static int put_whole(struct flag_change *c, const struct index_run *run)
{
    int r = 0;

    for (uint64_t i = 0; r == 0 && i < run->count; i++) {
        struct index_record next = index_load(&c->v->b->ix, run->at + i);

        next.flags = run->after.flags;
        next.keywords = run->after.keywords;
        next.modseq = c->modseq;
        next.bits = (uint16_t)(next.bits & ~INDEX_PENDING);
        if (next.flags != (next.file_flags & ~INTEROP_OLD) || next.keywords != next.file_keywords)
            next.bits |= INDEX_PENDING;
        r = index_put(c->v->b, run->at + i, &next);
    }
    return r;
}

static int index_visit(struct flag_change *c, const struct index_run *run)
{
    return wants_rest(run) ? put_whole(c, run) : index_put_flags(c->v->b, c->records, run, c->modseq);
}

/* Which messages fail the test of unchanged_since (RFC 7162 3.1.3): those in which something has changed since, or,
 * when flags are added or taken away, one of these (3.1.12). */
static int find_modified(struct flag_change *c)
{
    _cleanup_numset_ struct numset newer = NUMSET_INIT;
    struct box *b = c->v->b;
    uint64_t at = 0, count = b->ix.head->count;
    int r = 0;

    if (c->unchanged_since >= b->ix.head->modseq)
        return 0;
    for (size_t i = 0; r == 0 && i < c->uids->count; i++) {
        at = index_find(&b->ix, at, c->uids->ranges[i].first);
        for (; r == 0 && at < count && index_brief(&b->ix, at)->uid <= c->uids->ranges[i].last; at++) {
            const struct index_brief *brief = index_brief(&b->ix, at);

            if (!(brief->bits & INDEX_EXPUNGED) && brief->modseq > c->unchanged_since)
                r = numset_add(&newer, brief->uid, brief->uid);
        }
    }
    if (r == 0 && newer.count > 0)
        r = c->mode == MBOX_FLAGS_SET
                ? numset_add_set(&c->modified, &newer)
                : log_touched(b, c->unchanged_since, c->flags.system, c->flags.keywords, &newer, &c->modified);
    return r;
}

/* With BOX_STATE. */
static int change(struct flag_change *c)
{
    struct box *b = c->v->b;
    uint64_t logged;
    int r;

    c->modseq = b->ix.head->modseq + 1;
    c->records = records_of(c);
    if ((r = find_modified(c)) < 0 || (r = each(c, false, log_visit)) < 0)
        return r;
    if (c->count == 0)
        return 0;
    for (size_t i = 0; i < c->count; i++)
        if ((r = write_group(c, i)) < 0)
            return r;
    if ((r = log_commit(b, &c->log, true)) < 0 || (r = index_begin(b)) < 0)
        return r;
    b->ix.next->modseq = c->modseq;
    logged = c->visited;
    c->visited = 0;
    if ((r = each(c, true, index_visit)) < 0)
        return r;
    if (c->visited != logged) /* they were cut off meanwhile: the index stays dirty, and the log knows */
        return -EIO;
    if ((r = index_end(b)) == 0)
        view_own(c->v, c->modseq);
    return r;
}

static int set_flags(struct mbox *v, const struct numset *uids, enum mbox_flags_mode mode, struct mbox_flags flags,
                     uint64_t unchanged_since, struct numset *ret_modified)
{
    struct flag_change *c;
    int r;

    if (mbox_is_readonly(v))
        return -EROFS;
    c = calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    *c = (struct flag_change){.v = v,
                              .uids = uids,
                              .mode = mode,
                              .flags = flags,
                              .unchanged_since = unchanged_since,
                              .log = BUF_INIT(64u << 20)};
    c->flags.system &= MBOX_SEEN | MBOX_ANSWERED | MBOX_FLAGGED | MBOX_DELETED | MBOX_DRAFT;
    if ((r = box_lock_synced(v->b, 0)) == 0) {
        r = v->b->ix.head->uidvalidity == v->uidvalidity ? change(c) : -ESTALE;
        if (r == 0)
            (void)log_compact(v->b); /* the change is durable, whether or not this succeeds */
        box_unlock(v->b);
        view_follow(v);
    }
    if (r == 0 && ret_modified != NULL)
        r = numset_add_set(ret_modified, &c->modified);
    numset_finish(&c->modified);
    for (size_t i = 0; i < GROUPS_MAX; i++)
        numset_finish(&c->groups[i].uids);
    buf_finish(&c->log);
    free(c);
    return r;
}

/* On a full disk messages must be markable that are to go. */
int mbox_set_flags(struct mbox *v, const struct numset *uids, enum mbox_flags_mode mode, struct mbox_flags flags,
                   uint64_t unchanged_since, struct numset *ret_modified)
{
    bool dooms = (flags.system & MBOX_DELETED) && mode != MBOX_FLAGS_REMOVE;
    int r = set_flags(v, uids, mode, flags, unchanged_since, ret_modified);

    return r < 0 && dooms && store_use_reserve(v->b->store, r, false)
               ? set_flags(v, uids, mode, flags, unchanged_since, ret_modified)
               : r;
}
