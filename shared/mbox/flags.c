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
    struct buf log;
};

static void apply(const struct flag_change *c, struct index_record *rec)
{
    switch (c->mode) {
    case MBOX_FLAGS_SET:
        rec->flags = (uint8_t)c->flags.system;
        rec->keywords = c->flags.keywords;
        break;
    case MBOX_FLAGS_ADD:
        rec->flags |= (uint8_t)c->flags.system;
        rec->keywords |= c->flags.keywords;
        break;
    case MBOX_FLAGS_REMOVE:
        rec->flags &= (uint8_t)~c->flags.system;
        rec->keywords &= ~c->flags.keywords;
        break;
    }
}

static int write_group(struct flag_change *c, size_t i)
{
    int r = log_put_flags(&c->log, c->modseq, &c->groups[i].flags, &c->groups[i].uids);

    numset_clear(&c->groups[i].uids);
    return r;
}

/* Messages that end up with the same flags for the same reason are logged together. */
static int group(struct flag_change *c, const struct index_record *rec, const struct index_record *before)
{
    const struct log_flags flags = {.system = rec->flags,
                                    .keywords = rec->keywords,
                                    .changed =
                                        log_changed(rec->flags ^ before->flags, rec->keywords ^ before->keywords)};
    size_t i;
    int r;

    for (i = 0; i < c->count; i++)
        if (c->groups[i].flags.system == flags.system && c->groups[i].flags.keywords == flags.keywords &&
            c->groups[i].flags.changed == flags.changed)
            break;
    if (i == GROUPS_MAX) {
        i = rec->uid % GROUPS_MAX;
        if ((r = write_group(c, i)) < 0)
            return r;
    }
    if (i == c->count)
        c->count++;
    c->groups[i].flags = flags;
    return numset_add(&c->groups[i].uids, rec->uid, rec->uid);
}

/* Calls for each record that is meant and would change. */
static int each(struct flag_change *c, int (*visit)(struct flag_change *c, uint64_t at, const struct index_record *rec))
{
    struct box *b = c->v->b;
    uint64_t at = 0, count = b->ix.head->count;
    int r = 0;

    for (size_t i = 0; i < c->uids->count; i++) {
        const struct numrange *range = &c->uids->ranges[i];

        at = index_find(&b->ix, at, range->first);
        for (; r == 0 && at < count && b->ix.records[at].uid <= range->last; at++) {
            struct index_record rec = b->ix.records[at], before = rec;

            if (!index_is_valid(&rec)) /* before anything of it gets into the log */
                return index_spoil(b);
            if ((rec.bits & INDEX_EXPUNGED) || (c->modified.count > 0 && numset_has(&c->modified, rec.uid)))
                continue;
            apply(c, &rec);
            if (rec.flags != before.flags || rec.keywords != before.keywords)
                r = visit(c, at, &rec);
        }
        if (r < 0)
            break;
    }
    return r;
}

static int log_visit(struct flag_change *c, uint64_t at, const struct index_record *rec)
{
    int r = 0;

    /* Our MODSEQ is going to hide somebody else's: what that one changed is still to be told. */
    if (view_is_foreign(c->v, rec->modseq))
        r = numset_add(&c->v->untold, rec->uid, rec->uid);
    return r < 0 ? r : group(c, rec, &c->v->b->ix.records[at]);
}

static int index_visit(struct flag_change *c, uint64_t at, const struct index_record *rec)
{
    struct index_record next = *rec;

    next.modseq = c->modseq;
    next.bits = (uint16_t)(next.bits & ~INDEX_PENDING);
    if (next.flags != (next.file_flags & ~INTEROP_OLD) || next.keywords != next.file_keywords)
        next.bits |= INDEX_PENDING;
    return index_put(c->v->b, at, &next);
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
        for (; r == 0 && at < count && b->ix.records[at].uid <= c->uids->ranges[i].last; at++)
            if (!(b->ix.records[at].bits & INDEX_EXPUNGED) && b->ix.records[at].modseq > c->unchanged_since)
                r = numset_add(&newer, b->ix.records[at].uid, b->ix.records[at].uid);
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
    if ((r = find_modified(c)) < 0 || (r = each(c, log_visit)) < 0)
        return r;
    if (c->count == 0)
        return 0;
    for (size_t i = 0; i < c->count; i++)
        if ((r = write_group(c, i)) < 0)
            return r;
    if ((r = log_commit(b, &c->log, true)) < 0 || (r = index_begin(b)) < 0)
        return r;
    b->ix.next->modseq = c->modseq;
    if ((r = each(c, index_visit)) < 0)
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
