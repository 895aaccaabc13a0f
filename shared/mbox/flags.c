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
    struct numset modified; /* UIDs that fail the test of unchanged_since */
    struct {
        struct log_flags flags;
        struct numset uids;
    } groups[GROUPS_MAX];
    size_t count;
    size_t last; /* the group that was added to last, and what is not in its set yet: UIDs that follow one another */
    struct numrange run;
    bool has_run;
    uint64_t run_keywords; /* what the messages of the run had before */
    uint8_t run_flags;
    struct buf log;
};

/* What a message has before and afterwards. */
struct flags_pair {
    const struct index_brief *before;
    uint64_t keywords;
    uint8_t flags;
};

static void apply(const struct flag_change *c, struct flags_pair *p)
{
    const struct index_brief *before = p->before;

    switch (c->mode) {
    case MBOX_FLAGS_SET:
        p->flags = (uint8_t)c->flags.system;
        p->keywords = c->flags.keywords;
        break;
    case MBOX_FLAGS_ADD:
        p->flags = (uint8_t)(before->flags | c->flags.system);
        p->keywords = before->keywords | c->flags.keywords;
        break;
    case MBOX_FLAGS_REMOVE:
        p->flags = (uint8_t)(before->flags & ~c->flags.system);
        p->keywords = before->keywords & ~c->flags.keywords;
        break;
    }
}

static int end_run(struct flag_change *c)
{
    int r = c->has_run ? numset_add(&c->groups[c->last].uids, c->run.first, c->run.last) : 0;

    c->has_run = false;
    return r;
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
static int group(struct flag_change *c, const struct flags_pair *p)
{
    const uint32_t uid = p->before->uid;
    const struct log_flags flags = {.system = p->flags,
                                    .keywords = p->keywords,
                                    .changed =
                                        log_changed(p->flags ^ p->before->flags, p->keywords ^ p->before->keywords)};
    size_t i;
    int r;

    if ((r = end_run(c)) < 0)
        return r;
    for (i = 0; i < c->count; i++)
        if (is_group(c, i, &flags))
            break;
    if (i == GROUPS_MAX) {
        i = uid % GROUPS_MAX;
        if ((r = write_group(c, i)) < 0)
            return r;
    }
    if (i == c->count)
        c->count++;
    c->groups[i].flags = flags;
    c->last = i;
    c->run = (struct numrange){uid, uid};
    c->has_run = true;
    c->run_flags = p->before->flags;
    c->run_keywords = p->before->keywords;
    return 0;
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

/* Calls for each message that is meant and would change. is_known: all have been looked at under this lock already;
 * what was cut off since reads as zeros, see mbox_guard(), and so has UIDs below the range. */
static int each(struct flag_change *c, bool is_known,
                int (*visit)(struct flag_change *c, uint64_t at, const struct flags_pair *p))
{
    struct box *b = c->v->b;
    const struct index *ix = records_of(c);
    uint64_t at = 0, count = b->ix.head->count;
    int r = 0;

    for (size_t i = 0; r == 0 && i < c->uids->count; i++) {
        const struct numrange *range = &c->uids->ranges[i];
        uint64_t from = at;

        at = index_find(&b->ix, at, range->first);
        if (!is_known && is_misled(&b->ix, from, at))
            return index_spoil(b);
        for (; r == 0 && at < count; at++) {
            const struct index_brief brief = *index_brief(ix, at);
            struct flags_pair pair = {.before = &brief};

            if (brief.uid < range->first || (!is_known && !index_brief_is_valid(&brief)))
                return index_spoil(b); /* before anything of it gets into the log, or looks whole again */
            if (brief.uid > range->last)
                break;
            if ((brief.bits & INDEX_EXPUNGED) || (c->modified.count > 0 && numset_has(&c->modified, brief.uid)))
                continue;
            apply(c, &pair);
            if (pair.flags != brief.flags || pair.keywords != brief.keywords)
                r = visit(c, at, &pair);
        }
    }
    return r;
}

/* What the file says of keywords, and the size that \Deleted adds up, stand in the rest of the record. */
static bool wants_rest(const struct flags_pair *p)
{
    return p->keywords != p->before->keywords || ((p->flags ^ p->before->flags) & MBOX_DELETED);
}

static int log_visit(struct flag_change *c, uint64_t at, const struct flags_pair *p)
{
    const struct index_brief *before = p->before;
    struct index_record rec;
    int r = 0;

    if (wants_rest(p)) {
        rec = index_load(&c->v->b->ix, at);
        if (!index_is_valid(&rec))
            return index_spoil(c->v->b);
    }
    /* Our MODSEQ is going to hide somebody else's: what that one changed is still to be told. */
    if (before->modseq > c->v->modseq && view_is_foreign(c->v, before->modseq))
        r = numset_add(&c->v->untold, before->uid, before->uid);
    if (r < 0 || !c->has_run || c->run.last + 1 != before->uid || before->flags != c->run_flags ||
        before->keywords != c->run_keywords)
        return r < 0 ? r : group(c, p);
    c->run.last = before->uid;
    return 0;
}

static int put_whole(struct flag_change *c, uint64_t at, const struct flags_pair *p)
{
    struct index_record next = index_load(&c->v->b->ix, at);

    next.flags = p->flags;
    next.keywords = p->keywords;
    next.modseq = c->modseq;
    next.bits = (uint16_t)(next.bits & ~INDEX_PENDING);
    if (next.flags != (next.file_flags & ~INTEROP_OLD) || next.keywords != next.file_keywords)
        next.bits |= INDEX_PENDING;
    return index_put(c->v->b, at, &next);
}

static int index_visit(struct flag_change *c, uint64_t at, const struct flags_pair *p)
{
    return wants_rest(p) ? put_whole(c, at, p) : index_put_flags(c->v->b, at, p->before, p->flags, c->modseq);
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
    int r;

    c->modseq = b->ix.head->modseq + 1;
    if ((r = find_modified(c)) < 0 || (r = each(c, false, log_visit)) < 0 || (r = end_run(c)) < 0)
        return r;
    if (c->count == 0)
        return 0;
    for (size_t i = 0; i < c->count; i++)
        if ((r = write_group(c, i)) < 0)
            return r;
    if ((r = log_commit(b, &c->log, true)) < 0 || (r = index_begin(b)) < 0)
        return r;
    b->ix.next->modseq = c->modseq;
    if ((r = each(c, true, index_visit)) < 0)
        return r;
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
