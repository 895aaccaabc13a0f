/*
 * What changed: comparing a view with the index, and taking it over. Runs as the user; no lock is held while the caller
 * is told.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/view.h"

bool mbox_holds_expunged(const struct mbox *v)
{
    struct index_header h;
    size_t hole = 0;

    if (index_look(&v->ix, &h) && h.count == v->nrec)
        return h.count - h.live > v->hidden;
    for (uint64_t i = 0; i < v->nrec; i++) {
        if (hole < v->hole_count && i == v->holes[hole].first)
            i += v->holes[hole++].count - 1;
        else if (index_brief(&v->ix, i)->bits & INDEX_EXPUNGED)
            return true;
    }
    return false;
}

int view_map(struct mbox *v)
{
    size_t bytes = v->b->ix.mapped;
    void *p;
    int fd, r;

    if (v->ix.head != NULL && v->ix.ino == v->b->ix.ino && v->ix.mapped >= bytes)
        return 0;
    p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, v->b->ix.fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    fd = fcntl(v->b->ix.fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        r = -errno;
        (void)munmap(p, bytes);
        return r;
    }
    index_finish(&v->ix);
    v->ix.fd = fd;
    v->ix.head = p;
    v->ix.mapped = bytes;
    v->ix.ino = v->b->ix.ino;
    return 0;
}

/* Has nobody cut our file (see mbox_guard())? */
static bool is_whole(const struct mbox *v)
{
    struct stat st;

    return !v->is_damaged && fstat(v->ix.fd, &st) == 0 && (uint64_t)st.st_size >= index_bytes(v->nrec);
}

int view_add_hole(struct mbox *v, uint64_t position)
{
    struct view_hole *last = v->hole_count > 0 ? &v->holes[v->hole_count - 1] : NULL;

    if (last != NULL && last->first + last->count == position) {
        last->count++;
        v->hidden++;
        return 0;
    }
    if (v->hole_count == v->hole_cap) {
        size_t cap = v->hole_cap == 0 ? 16 : v->hole_cap * 2;
        struct view_hole *more = realloc(v->holes, cap * sizeof(*more));

        if (more == NULL)
            return -ENOMEM;
        v->holes = more;
        v->hole_cap = cap;
    }
    v->holes[v->hole_count++] = (struct view_hole){.first = position, .count = 1, .before = v->hidden};
    v->hidden++;
    return 0;
}

/* With BOX_STATE: 1 for what is gone, 0 for what is there. A bit that is damage only hides nothing: -EIO. */
static int is_gone(struct mbox *v, const struct index_brief *brief)
{
    if (!(brief->bits & INDEX_EXPUNGED))
        return 0;
    return index_brief_is_valid(brief) ? 1 : index_spoil(v->b);
}

int view_find_holes(struct mbox *v)
{
    int r = 0;

    v->hole_count = 0;
    v->hidden = 0;
    if (v->ix.head->live == v->nrec)
        return 0;
    for (uint64_t i = 0; r >= 0 && i < v->nrec; i++)
        if ((r = is_gone(v, index_brief(&v->ix, i))) > 0)
            r = view_add_hole(v, i);
    return r == 0 && v->hidden != v->nrec - v->ix.head->live ? index_spoil(v->b) : r;
}

void view_own(struct mbox *v, uint64_t modseq)
{
    if (v->own_count < VIEW_OWN_MAX)
        v->own[v->own_count++] = modseq;
}

bool view_is_foreign(const struct mbox *v, uint64_t modseq)
{
    if (modseq <= v->modseq)
        return false;
    for (size_t i = 0; i < v->own_count; i++)
        if (v->own[i] == modseq)
            return false;
    return true;
}

/* The index file was replaced: the same messages in the new one, by their UIDs. Records of the new one up to there that
 * are not in the view become its holes. *ret_lost gets the view's messages that the new index has no record of. */
static int view_move(struct mbox *v, struct numset *ret_lost)
{
    struct mbox fresh = *v;
    uint64_t to = 0;
    uint32_t count = mbox_count(v);
    int r;

    fresh.holes = NULL;
    fresh.hole_count = fresh.hole_cap = 0;
    fresh.hidden = 0;
    fresh.ix = (struct index){.fd = -1};
    if ((r = view_map(&fresh)) < 0)
        return r;
    for (uint32_t seq = 1; r == 0 && seq <= count; seq++) {
        const struct index_brief *brief = index_brief(&v->ix, view_position(v, seq));
        uint32_t uid = brief->uid;

        if (!index_brief_is_valid(brief)) { /* which message it was nobody can say */
            r = -ESTALE;
            break;
        }
        while (r == 0 && to < fresh.ix.head->count && index_brief(&fresh.ix, to)->uid < uid)
            r = view_add_hole(&fresh, to++);
        if (to < fresh.ix.head->count && index_brief(&fresh.ix, to)->uid == uid)
            to++;
        else if (r == 0)
            r = numset_add(ret_lost, seq, seq);
    }
    if (r == 0 && ret_lost->count > 0)
        r = -ESRCH;
    if (r < 0) {
        free(fresh.holes);
        index_finish(&fresh.ix);
        return r;
    }
    fresh.nrec = to;
    index_finish(&v->ix);
    free(v->holes);
    *v = fresh;
    return 0;
}

void view_follow(struct mbox *v)
{
    _cleanup_numset_ struct numset lost = NUMSET_INIT;

    if (v->b->ix.head == NULL || v->b->ix.head->uidvalidity != v->uidvalidity)
        return;
    if (v->ix.ino == v->b->ix.ino)
        (void)view_map(v);
    else
        (void)view_move(v, &lost);
}

struct gathered {
    struct numrange *expunged; /* sequence number and UID */
    size_t expunged_count;
    size_t expunged_cap;
    struct numset flags; /* UIDs */
    bool has_arrived;
};

static int add_expunged(struct gathered *g, uint32_t seq, uint32_t uid)
{
    if (g->expunged_count == g->expunged_cap) {
        size_t cap = g->expunged_cap * 2 + 16;
        struct numrange *more = realloc(g->expunged, cap * sizeof(*more));

        if (more == NULL)
            return -ENOMEM;
        g->expunged = more;
        g->expunged_cap = cap;
    }
    g->expunged[g->expunged_count++] = (struct numrange){seq, uid};
    return 0;
}

static int gather_expunged(struct mbox *v, struct gathered *g)
{
    uint32_t count = mbox_count(v), told = 0;
    int r = 0;

    for (uint32_t seq = 1; r >= 0 && seq <= count; seq++) {
        const struct index_brief *brief = index_brief(&v->ix, view_position(v, seq));

        if ((r = is_gone(v, brief)) > 0)
            r = add_expunged(g, seq - told++, brief->uid);
    }
    return r;
}

/* Messages that the new index has no record of leave the view. */
static int drop_lost(struct mbox *v, const struct numset *lost, struct gathered *g)
{
    struct mbox old = *v;
    uint32_t told = 0;
    uint64_t seq = 1;
    int r = 0;

    v->holes = NULL;
    v->hole_count = v->hole_cap = 0;
    v->hidden = 0;
    for (uint64_t i = 0; r == 0 && i < v->nrec; i++) {
        bool was_there = seq <= mbox_count(&old) && view_position(&old, (uint32_t)seq) == i;

        if (!was_there || numset_has(lost, (uint32_t)seq))
            r = view_add_hole(v, i);
        if (r == 0 && was_there && numset_has(lost, (uint32_t)seq))
            r = add_expunged(g, (uint32_t)seq - told++, index_brief(&v->ix, i)->uid);
        seq += was_there;
    }
    free(old.holes);
    return r;
}

static int gather_flags(struct mbox *v, struct gathered *g)
{
    int r = 0;

    for (uint64_t i = 0; r == 0 && i < v->nrec; i++) {
        const struct index_brief *brief = index_brief(&v->ix, i);

        if (brief->modseq <= v->modseq || (brief->bits & INDEX_EXPUNGED))
            continue;
        if (view_is_foreign(v, brief->modseq) || numset_has(&v->untold, brief->uid))
            r = numset_add(&g->flags, brief->uid, brief->uid);
    }
    return r;
}

/* \Recent belongs to the first view that sees a message. */
static int take_recent(struct mbox *v)
{
    struct box *b = v->b;
    int r;

    if (mbox_is_readonly(v) || b->ix.head->recent == b->ix.head->uidnext)
        return 0;
    if ((r = numset_add(&v->recent, b->ix.head->recent, b->ix.head->uidnext - 1)) < 0 || (r = index_begin(b)) < 0)
        return r;
    b->ix.next->recent = b->ix.next->uidnext;
    return index_end(b);
}

/* With BOX_STATE held: everything that is new goes to *g and into the view. */
static int take_changes(struct mbox *v, bool keep_expunged, struct gathered *g)
{
    const struct index_header *h;
    uint64_t before;
    int r = 0;

    h = v->ix.head; /* mapped: what index_end() writes shows here */
    if (h->magic != INDEX_MAGIC || h->count < v->nrec) /* it was cut, and this page is none of it any more */
        return -ESTALE;
    if (!keep_expunged && h->expunges != v->expunges && (r = gather_expunged(v, g)) < 0)
        return r;
    /* Each MODSEQ that was given since may be our own: then nothing is to be told of flags. */
    if (h->modseq > v->modseq + v->own_count && (r = gather_flags(v, g)) < 0)
        return r;
    before = v->nrec;
    if (h->count > v->nrec && (r = take_recent(v)) < 0)
        return r;
    h = v->ix.head;
    v->nrec = h->count;
    v->modseq = h->modseq;
    v->own_count = 0;
    numset_clear(&v->untold);
    for (uint64_t i = before; r >= 0 && i < v->nrec; i++) {
        if ((r = is_gone(v, index_brief(&v->ix, i))) > 0)
            r = view_add_hole(v, i); /* came and went between two polls: never was in the view */
        else
            g->has_arrived |= r == 0;
    }
    if (r == 0 && !keep_expunged && h->expunges != v->expunges) {
        v->expunges = h->expunges;
        r = view_find_holes(v);
    }
    if (r < 0) /* half of it is in the view: no number in it is to be trusted */
        v->is_damaged = true;
    return r < 0 ? -ESTALE : 0;
}

static int tell(struct mbox *v, const struct gathered *g, const struct mbox_changes *c)
{
    int r = 0;

    for (size_t i = 0; r == 0 && c->expunged != NULL && i < g->expunged_count; i++)
        r = c->expunged(c->context, g->expunged[i].first, g->expunged[i].last);
    for (size_t i = 0; r == 0 && c->flags != NULL && i < g->flags.count; i++) {
        for (uint64_t uid = g->flags.ranges[i].first; r == 0 && uid <= g->flags.ranges[i].last; uid++) {
            uint32_t seq = mbox_seq(v, (uint32_t)uid);

            if (seq != 0)
                r = c->flags(c->context, seq);
        }
    }
    if (r == 0 && g->has_arrived && c->arrived != NULL)
        r = c->arrived(c->context, mbox_count(v));
    return r;
}

/* The view's numbers on the index as it is now. -EAGAIN: not before expunges may be told. */
static int follow_strictly(struct mbox *v, bool keep_expunged, struct gathered *g)
{
    _cleanup_numset_ struct numset lost = NUMSET_INIT;
    int r;

    if (v->b->ix.head->uidvalidity != v->uidvalidity)
        return -ESTALE;
    if (v->ix.ino == v->b->ix.ino)
        return view_map(v);
    r = view_move(v, &lost);
    if (r != -ESRCH)
        return r;
    if (keep_expunged)
        return -EAGAIN;
    r = drop_lost(v, &lost, g);
    numset_clear(&lost);
    return r == 0 ? view_move(v, &lost) : r;
}

int mbox_poll(struct mbox *v, bool keep_expunged, const struct mbox_changes *changes)
{
    struct gathered g = {0};
    int r;

    watch_drain(v);
    view_rest(v);
    if (!is_whole(v))
        return -ESTALE;
    v->b->takes_unproven = true;
    r = box_lock_synced(v->b, 0);
    v->b->takes_unproven = false;
    if (r < 0)
        return r;
    if ((r = follow_strictly(v, keep_expunged, &g)) == 0)
        r = take_changes(v, keep_expunged, &g);
    else if (r == -EAGAIN)
        r = 0;
    box_unlock(v->b);
    if (r == 0 && changes != NULL)
        r = tell(v, &g, changes);
    free(g.expunged);
    numset_finish(&g.flags);
    return r;
}
