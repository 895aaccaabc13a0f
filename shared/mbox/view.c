/*
 * Views: opened on a synced index, numbered by counting records, kept up to date by mbox_poll() (poll.c). Runs as the
 * user.
 */
#include "shared/mbox/view.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/names.h"
#include "shared/mbox/settle.h"

#define CHECK_TRIES 500 /* a record that somebody is writing at this moment */
#define CHECK_SPINS 100

uint32_t mbox_count(const struct mbox *v)
{
    return (uint32_t)(v->nrec - v->hidden);
}

/* The holes in front of message number n (from 0): the last one with first - before <= n. */
static const struct view_hole *holes_before(const struct mbox *v, uint64_t n)
{
    size_t low = 0, high = v->hole_count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (v->holes[mid].first - v->holes[mid].before <= n)
            low = mid + 1;
        else
            high = mid;
    }
    return low == 0 ? NULL : &v->holes[low - 1];
}

uint64_t view_position(const struct mbox *v, uint32_t seq)
{
    const struct view_hole *hole = holes_before(v, seq - 1);

    return seq - 1 + (hole == NULL ? 0 : hole->before + hole->count);
}

/* The last hole that begins at or before a record. */
static const struct view_hole *hole_at(const struct mbox *v, uint64_t position)
{
    size_t low = 0, high = v->hole_count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (v->holes[mid].first <= position)
            low = mid + 1;
        else
            high = mid;
    }
    return low == 0 ? NULL : &v->holes[low - 1];
}

static bool is_hole(const struct mbox *v, uint64_t position)
{
    const struct view_hole *hole = hole_at(v, position);

    return hole != NULL && position < hole->first + hole->count;
}

/* The view's numbers are not to be trusted any more. If it is the index itself that is damaged, and not this mapping of
 * one that was cut, the next to look at the mailbox makes it anew. */
static int end_damaged(struct mbox *v, uint64_t position)
{
    struct box *b = v->b;
    struct index_record rec;

    v->is_damaged = true;
    if (box_lock(b, BOX_STATE) < 0)
        return -EIO;
    if (index_open(b) == 0 && b->ix.head != NULL && b->ix.ino == v->ix.ino && position < b->ix.head->count) {
        rec = index_load(&b->ix, position);
        if (!index_is_valid(&rec))
            (void)index_spoil(b);
    }
    box_unlock(b);
    return -EIO;
}

/* The whole record, or only its brief. */
static int load_checked(struct mbox *v, uint32_t seq, bool is_whole, struct index_record *ret)
{
    uint64_t position;

    if (seq == 0 || seq > mbox_count(v))
        return -EINVAL;
    position = view_position(v, seq);
    for (int i = 0; i < CHECK_TRIES && !v->is_damaged; i++) {
        if (is_whole)
            *ret = index_load(&v->ix, position);
        else
            ret->brief = *index_brief(&v->ix, position);
        if (is_whole ? index_is_valid(ret) : index_brief_is_valid(&ret->brief))
            return 0;
        if (i >= CHECK_SPINS) /* the writer may need this processor */
            (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return v->is_damaged ? -EIO : end_damaged(v, position);
}

int view_record(struct mbox *v, uint32_t seq, struct index_record *ret)
{
    return load_checked(v, seq, true, ret);
}

int view_uid(struct mbox *v, uint32_t seq, uint32_t *ret)
{
    _uninitialized_ struct index_record rec;
    int r = load_checked(v, seq, false, &rec);

    if (r == 0)
        *ret = rec.uid;
    return r;
}

/* First record of the view's range with uid >= uid. */
static uint64_t lower_bound(const struct mbox *v, uint32_t uid)
{
    uint64_t low = 0, high = v->nrec;

    while (low < high) {
        uint64_t mid = low + (high - low) / 2;

        if (index_brief(&v->ix, mid)->uid < uid)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* How many messages of the view stand before this record. */
static uint32_t count_before(const struct mbox *v, uint64_t position)
{
    const struct view_hole *hole = hole_at(v, position);
    uint64_t in_hole;

    if (hole == NULL)
        return (uint32_t)position;
    in_hole = position - hole->first < hole->count ? position - hole->first : hole->count;
    return (uint32_t)(position - hole->before - in_hole);
}

uint32_t mbox_seq(struct mbox *v, uint32_t uid)
{
    uint64_t position = lower_bound(v, uid);

    if (position >= v->nrec || index_brief(&v->ix, position)->uid != uid || is_hole(v, position))
        return 0;
    return count_before(v, position) + 1;
}

uint32_t mbox_seq_from(struct mbox *v, uint32_t uid)
{
    return count_before(v, lower_bound(v, uid)) + 1;
}

bool mbox_is_readonly(const struct mbox *v)
{
    return (v->flags & MBOX_OPEN_READONLY) != 0;
}

bool mbox_uids_last(const struct mbox *v)
{
    return v->b->store->parent == NULL; /* else it is a shadow's */
}

struct str mbox_name(const struct mbox *v)
{
    return str_from(v->b->name);
}

int mbox_info(struct mbox *v, uint32_t seq, struct mbox_info *ret)
{
    _uninitialized_ struct index_record rec;
    int r = view_record(v, seq, &rec);

    if (r < 0)
        return r;
    *ret = (struct mbox_info){.uid = rec.uid,
                              .flags = {.system = rec.flags, .keywords = rec.keywords},
                              .is_recent =
                                  mbox_is_readonly(v) ? rec.uid >= v->recent_from : numset_has(&v->recent, rec.uid),
                              .is_expunged = (rec.bits & INDEX_EXPUNGED) != 0,
                              .has_8bit = (rec.bits & INDEX_HAS_8BIT) != 0,
                              .modseq = rec.modseq,
                              .size = rec.size,
                              .internaldate = rec.internaldate,
                              .internaldate_offset = rec.date_offset,
                              .savedate = rec.savedate};
    memcpy(ret->hash, rec.hash, sizeof(ret->hash));
    return 0;
}

static void status_head(const struct index_header *h, struct mbox_status *ret)
{
    *ret = (struct mbox_status){.uidvalidity = h->uidvalidity, .uidnext = h->uidnext, .highestmodseq = h->modseq};
    memcpy(ret->mailboxid, h->mailboxid, sizeof(ret->mailboxid));
}

static void status_count(struct mbox_status *s, const struct index_record *rec)
{
    s->messages++;
    s->size += rec->size;
    if (rec->flags & MBOX_DELETED) {
        s->deleted++;
        s->deleted_size += rec->size;
    }
    if (!(rec->flags & MBOX_SEEN)) {
        s->unseen++;
        if (s->first_unseen == 0)
            s->first_unseen = s->messages;
    }
}

static uint32_t count_recent(const struct mbox *v)
{
    uint32_t n = 0;

    if (mbox_is_readonly(v))
        return mbox_count(v) - count_before(v, lower_bound(v, v->recent_from));
    for (size_t i = 0; i < v->recent.count; i++) {
        const struct numrange *range = &v->recent.ranges[i];
        uint64_t end = range->last == UINT32_MAX ? v->nrec : lower_bound(v, range->last + 1);

        n += count_before(v, end) - count_before(v, lower_bound(v, range->first));
    }
    return n;
}

static void status_sums(const struct index_header *h, struct mbox_status *s)
{
    s->unseen = h->unseen;
    s->deleted = h->deleted;
    s->deleted_size = h->deleted_bytes;
    s->size = h->bytes;
}

/* One by one: the view lags behind the index. */
static void status_view(const struct mbox *v, struct mbox_status *s)
{
    struct index_record rec;
    size_t hole = 0;

    for (uint64_t i = 0; i < v->nrec; i++) {
        if (hole < v->hole_count && i == v->holes[hole].first) {
            i += v->holes[hole].count - 1;
            hole++;
            continue;
        }
        rec = index_load(&v->ix, i);
        status_count(s, &rec);
    }
}

int mbox_view_status(struct mbox *v, struct mbox_status *ret)
{
    struct index_header h;
    struct mbox_status s;
    uint64_t at;

    if (v->is_damaged || v->ix.head->magic != INDEX_MAGIC)
        return -EIO;
    status_head(v->ix.head, &s);
    s.highestmodseq = v->modseq;
    if (index_look(&v->ix, &h) && h.count == v->nrec && h.count - h.live == v->hidden) {
        s.messages = mbox_count(v);
        status_sums(&h, &s);
        for (at = h.first_unseen; at < v->nrec && h.unseen > 0; at++) {
            if (!is_hole(v, at) && !(index_brief(&v->ix, at)->flags & MBOX_SEEN)) {
                s.first_unseen = count_before(v, at) + 1;
                break;
            }
        }
    } else {
        status_view(v, &s);
    }
    s.recent = count_recent(v);
    if (v->nrec < v->ix.head->count) { /* UIDNEXT as of the view; the record may stand behind what is mapped */
        struct index_brief next;
        int r = file_read(v->ix.fd, &next, sizeof(next), index_brief_place(v->nrec));

        if (r < 0 || next.uid == 0)
            return -EIO;
        s.uidnext = next.uid;
    }
    *ret = s;
    return 0;
}

/* With BOX_STATE. */
static void status_box(const struct box *b, struct mbox_status *s)
{
    const struct index_header *h = b->ix.head;

    status_head(h, s);
    status_sums(h, s);
    s->messages = (uint32_t)h->live;
    for (uint64_t i = index_find(&b->ix, 0, h->recent); i < h->count; i++)
        s->recent += !(index_brief(&b->ix, i)->bits & INDEX_EXPUNGED);
    if (h->unseen == 0)
        return;
    s->first_unseen = (uint32_t)h->first_unseen + 1;
    for (uint64_t i = 0; h->live < h->count && i < h->first_unseen; i++)
        s->first_unseen -= (index_brief(&b->ix, i)->bits & INDEX_EXPUNGED) != 0;
}

static int status_of(struct mbox_store *store, struct str name, struct mbox_status *ret)
{
    struct box *b;
    int r;

    if ((r = box_open(store, name, false, &b)) < 0)
        return r;
    if ((r = box_lock_synced(b, 0)) == 0) {
        status_box(b, ret);
        box_unlock(b);
    }
    box_free(b);
    return r;
}

int mbox_status(struct mbox_store *s, struct str name, struct mbox_status *ret)
{
    int r = status_of(s, name, ret);
    struct mbox_store *shadow = r < 0 ? store_shadow(s, name, r) : NULL;

    if (shadow == NULL || status_of(shadow, name, ret) < 0)
        return r;
    store_shadow_notice(s, name, r, true);
    ret->highestmodseq = 0; /* of no use to anybody else (RFC 7162 3.1.7) */
    return 0;
}

/* ---- opening and closing ---- */

static int pop3_lock(struct mbox *v)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = BOX_BYTE_POP3, .l_len = 1};
    _cleanup_buf_ struct buf path = BUF_INIT(LIMIT_CONF_VALUE * 8);
    int r;

    if ((r = store_prepare(v->b->store)) < 0 || (r = buf_printf(&path, "%s.lock", v->b->side)) < 0)
        return r;
    v->pop3_fd = open(buf_cstr(&path), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (v->pop3_fd < 0)
        return -errno;
    if (fcntl(v->pop3_fd, F_OFD_SETLK, &lock) < 0)
        return errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
    return 0;
}

/* A new view of the synced index; records that are gone already are holes. */
static int view_begin(struct mbox *v)
{
    struct box *b = v->b;
    struct index_header *h;
    int r;

    v->ix.fd = -1;
    if ((r = view_map(v)) < 0)
        return r;
    v->nrec = v->ix.head->count;
    v->modseq = v->ix.head->modseq;
    v->expunges = v->ix.head->expunges;
    v->uidvalidity = v->ix.head->uidvalidity;
    v->recent_from = v->ix.head->recent;
    if ((r = view_find_holes(v)) < 0 || mbox_is_readonly(v) || b->ix.head->recent == b->ix.head->uidnext)
        return r;
    if ((r = numset_add(&v->recent, b->ix.head->recent, b->ix.head->uidnext - 1)) < 0 || (r = index_begin(b)) < 0)
        return r;
    h = b->ix.next;
    h->recent = h->uidnext;
    return index_end(b);
}

static int open_view(struct mbox_store *s, struct str name, unsigned flags, struct mbox **ret)
{
    struct mbox *v;
    int r;

    v = calloc(1, sizeof(*v));
    if (v == NULL)
        return -ENOMEM;
    v->ix.fd = v->watch = v->pop3_fd = v->cache_fd = -1;
    v->flags = flags;
    v->cache = BUF_INIT(LIMIT_CACHE_BLOB * 2);
    v->cache_put = BUF_INIT(LIMIT_CACHE_BLOB * 4);
    r = box_open(s, name, false, &v->b);
    if (r == 0 && v->b->side == NULL)
        r = -EROFS;
    if (r == 0 && (flags & MBOX_OPEN_POP3))
        r = pop3_lock(v);
    if (r == 0)
        r = box_lock_synced(v->b, 0);
    if (r == 0) {
        if (v->b->fd >= 0 && !v->b->is_writable)
            v->flags |= MBOX_OPEN_READONLY;
        r = view_begin(v);
        box_unlock(v->b);
    }
    if (r < 0) {
        view_free(v);
        return r;
    }
    *ret = v;
    return 0;
}

/* On a full disk too, if it was not too full before. */
static int open_in_need(struct mbox_store *s, struct str name, unsigned flags, struct mbox **ret)
{
    int r = open_view(s, name, flags, ret);

    if (r == -EIO) /* damage to the index, perhaps: found, and made anew by who comes next */
        r = open_view(s, name, flags, ret);
    if (r < 0 && store_use_reserve(s, r, false))
        r = open_view(s, name, flags, ret);
    return r;
}

int mbox_open(struct mbox_store *s, struct str name, unsigned flags, struct mbox **ret)
{
    int r = open_in_need(s, name, flags, ret);
    /* UIDLs that do not last would make clients fetch everything again. */
    bool lasts = flags & MBOX_OPEN_POP3;
    struct mbox_store *shadow = r < 0 && !lasts ? store_shadow(s, name, r) : NULL;

    bool is_shown = shadow != NULL && open_view(shadow, name, flags | MBOX_OPEN_READONLY, ret) >= 0;

    if (r < 0)
        store_shadow_notice(s, name, r, is_shown);
    return is_shown ? 0 : r;
}

void view_rest(struct mbox *v)
{
    block_finish(&v->block);
    free(v->spare);
    v->spare = NULL;
}

void view_free(struct mbox *v)
{
    watch_finish(v);
    view_rest(v);
    close_fd(&v->pop3_fd);
    close_fd(&v->cache_fd);
    index_finish(&v->ix);
    numset_finish(&v->recent);
    numset_finish(&v->untold);
    free(v->holes);
    buf_finish(&v->cache);
    buf_finish(&v->cache_put);
    box_free(v->b);
    free(v);
}

/* The index outlives a power cut only if it was made durable: where it was changed, the end of a view sees to that. */
static void settle(struct box *b)
{
    if (b->side == NULL || b->ix.head == NULL || b->ix.head->is_settled || box_lock(b, BOX_STATE) < 0)
        return;
    if (index_open(b) == 0)
        (void)index_settle(b); /* if not, the index is made again after a power cut */
    box_unlock(b);
}

void mbox_leave(struct mbox *v)
{
    close_fd(&v->pop3_fd);
}

int mbox_close(struct mbox *v)
{
    int r = 0;

    if (v == NULL)
        return 0;
    if (!mbox_is_readonly(v))
        r = mbox_flush(v);
    (void)cache_write(v);
    settle(v->b);
    view_free(v);
    return r;
}
