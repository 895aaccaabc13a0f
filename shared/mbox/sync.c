/*
 * Bringing the index up to date with the mbox file: nothing when it did not change, the new end when it only grew,
 * otherwise everything (rebuild.c). Runs as the user under BOX_STATE and at least BOX_READ.
 */
#include "shared/mbox/sync.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/base.h"
#include "shared/mbox/journal.h"
#include "shared/mbox/settle.h"
#include "shared/mbox/tail.h"

static int keyword_find(char keywords[][INDEX_KEYWORD_SIZE], struct str name, int *ret_free)
{
    *ret_free = -1;
    for (int i = 0; i < LIMIT_KEYWORDS; i++) {
        if (keywords[i][0] == '\0') {
            if (*ret_free < 0)
                *ret_free = i;
        } else if (str_ieq(str_from(keywords[i]), name)) {
            return i;
        }
    }
    return -1;
}

/* Files hold what others wrote, senders among them: what is no atom (RFC 9051 9) would be no flag in a response. */
static bool keyword_is_good(struct str name)
{
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)name.ptr[i] <= ' ' || (unsigned char)name.ptr[i] >= 0x7f ||
            strchr("(){%*\"\\]", name.ptr[i]) != NULL)
            return false;
    return name.len > 0 && name.len <= LIMIT_KEYWORD;
}

int keyword_bits(char keywords[][INDEX_KEYWORD_SIZE], int most, struct str names, struct buf *log, uint64_t *ret)
{
    struct str name;
    uint64_t bits = 0;
    int r;

    while (str_word(&names, &name)) {
        int free_one, n;

        if (!keyword_is_good(name))
            continue;
        n = keyword_find(keywords, name, &free_one);
        if (n < 0 && free_one >= 0 && free_one < most) {
            n = free_one;
            memcpy(keywords[n], name.ptr, name.len);
            keywords[n][name.len] = '\0';
            if ((r = log_put_keyword(log, (unsigned)n, keywords[n])) < 0)
                return r;
        }
        if (n >= 0)
            bits |= 1ull << n;
    }
    *ret = bits;
    return 0;
}

int sync_record(struct sync_op *op, const struct scan_message *m, struct index_record *ret)
{
    bool is_in_place = sync_is_in_place(m);
    uint64_t size = (uint64_t)op->b->facts.st_size;
    struct index_record rec = {.offset = m->offset,
                               .length = m->length,
                               .size = m->size,
                               .internaldate = m->date,
                               .savedate = m->has_marker ? m->marker.savedate : 0,
                               .uid = m->uid,
                               .header = (uint32_t)m->header,
                               .from_length = (uint16_t)m->from_length,
                               .block = m->block > UINT16_MAX ? 0 : (uint16_t)m->block,
                               .date_offset = m->date_offset,
                               .flags = (uint8_t)(m->flags & ~INTEROP_OLD),
                               .file_flags = (uint8_t)m->flags,
                               .separator = m->separator,
                               .form = (uint8_t)m->marker.form};
    int r;

    if (m->header > UINT32_MAX)
        return -EFBIG;
    memcpy(rec.hash, m->hash, sizeof(rec.hash));
    rec.bits = (uint16_t)((m->lacks_newline ? INDEX_LACKS_NEWLINE : 0) | (m->has_stray ? INDEX_HAS_STRAY : 0) |
                          (m->has_marker ? INDEX_HAS_MARKER : 0) | (m->has_base ? INDEX_HAS_BASE : 0) |
                          (m->has_interop ? INDEX_HAS_INTEROP : 0) | (is_in_place ? INDEX_IN_PLACE : 0) |
                          (m->has_8bit ? INDEX_HAS_8BIT : 0) |
                          (is_in_place && (m->marker.end > size || m->length != m->marker.length) ? INDEX_IS_TORN : 0));
    if ((r = keyword_bits(op->h->keywords, sync_keywords_most(m), m->keywords, op->log, &rec.file_keywords)) < 0)
        return r;
    rec.keywords = rec.file_keywords;
    *ret = rec;
    return 0;
}

/* Never given yet, and written either by our own append just there, or by a program that keeps X-IMAPbase with our
 * UIDVALIDITY (Dovecot). Anything else may come from a sender. */
bool sync_uid_is_good(const struct index_header *h, const struct index_record *rec)
{
    if (rec->uid < h->uidnext || rec->uid == UINT32_MAX)
        return false;
    if (rec->bits & INDEX_IN_PLACE)
        return rec->uid - h->uidnext < SYNC_UID_LEAP;
    return h->base_validity == h->uidvalidity && rec->uid <= h->base_last;
}

int sync_new(struct sync_op *op, struct index_record *rec)
{
    struct index_header *h = op->h;
    bool is_seen;

    if (h->uidnext == UINT32_MAX)
        return -EOVERFLOW;
    is_seen = op->seen > 0 ? rec->offset < op->seen : rec->uid != 0 && rec->uid < op->uidnext;
    if (!is_seen && tail_is_torn(op->b, rec, op->seen > 0 || op->uidnext > 0, &op->b->torn))
        return -EUCLEAN;
    rec->bits |= sync_uid_is_good(h, rec) ? INDEX_UID_IN_FILE : 0;
    if (!(rec->bits & INDEX_UID_IN_FILE))
        (void)sync_skip_given(h);
    rec->uid = rec->bits & INDEX_UID_IN_FILE ? rec->uid : h->uidnext;
    h->uidnext = rec->uid + 1;
    rec->modseq = op->modseq;
    op->is_used = true;
    if (rec->savedate == 0)
        rec->savedate = op->now;
    return rec->bits & INDEX_UID_IN_FILE ? 0 : log_put_message(op->log, rec);
}

int sync_merge(struct sync_op *op, const struct index_record *known, struct index_record *rec)
{
    bool was_told = (known->bits & INDEX_UID_IN_FILE) || known->file_flags != 0 || known->file_keywords != 0;
    bool is_changed, is_logged = !(known->bits & INDEX_UID_IN_FILE);

    rec->bits |= rec->uid == known->uid ? INDEX_UID_IN_FILE : 0;
    rec->uid = known->uid;
    rec->modseq = known->modseq;
    rec->savedate = known->savedate;
    rec->internaldate = known->internaldate;
    rec->date_offset = known->date_offset;
    memcpy(rec->cache, known->cache, sizeof(rec->cache));
    if (was_told && !(rec->bits & INDEX_HAS_INTEROP)) { /* stripped, not changed */
        rec->flags = known->flags;
        rec->keywords = known->keywords;
    } else {
        uint8_t flags = (uint8_t)((rec->file_flags ^ known->file_flags) & ~INTEROP_OLD);
        uint64_t keywords = rec->file_keywords ^ known->file_keywords;

        rec->flags = (uint8_t)((known->flags & ~flags) | (rec->file_flags & flags));
        rec->keywords = (known->keywords & ~keywords) | (rec->file_keywords & keywords);
    }
    is_changed = rec->flags != known->flags || rec->keywords != known->keywords;
    if (is_changed) {
        rec->modseq = op->modseq;
        op->is_used = true;
    }
    if (rec->flags != (rec->file_flags & ~INTEROP_OLD) || rec->keywords != rec->file_keywords)
        rec->bits |= INDEX_PENDING;
    if ((!(rec->bits & INDEX_UID_IN_FILE) && !is_logged) || is_changed ||
        ((rec->bits & INDEX_PENDING) && !(known->bits & INDEX_PENDING)))
        return log_put_message(op->log, rec);
    return 0;
}

int sync_log(struct box *b, struct sync_op *op, bool sync)
{
    int r;

    if (!sync && op->log->len < SYNC_LOG_BATCH)
        return 0;
    r = log_commit(b, op->log, sync);
    buf_clear(op->log);
    return r;
}

/* ---- growth ---- */

struct growth {
    struct box *b;
    struct sync_op op;
    struct index_record last; /* as it was known */
    bool has_last;            /* it was seen again */
};

static int growth_visit(void *context, const struct scan_message *m)
{
    struct growth *g = context;
    struct index_header *h = g->b->ix.next;
    struct index_record rec;
    int r;

    box_touch(g->b);
    if (sync_is_void(g->b, m)) {
        g->b->torn = m->offset;
        return -EUCLEAN;
    }
    if ((r = sync_record(&g->op, m, &rec)) < 0)
        return r;
    if (!g->has_last) {
        /* The one that was the last: the same content, perhaps longer by an empty line, perhaps with other flags. */
        if (m->offset != g->last.offset || memcmp(m->hash, g->last.hash, sizeof(m->hash)) != 0)
            return -ESTALE;
        g->has_last = true;
        r = sync_merge(&g->op, &g->last, &rec);
        return r < 0 ? r : index_put(g->b, h->last, &rec);
    }
    if ((r = sync_new(&g->op, &rec)) < 0)
        return r;
    h->last = h->count;
    h->live++;
    if ((r = index_put(g->b, h->count, &rec)) < 0)
        return r;
    return sync_log(g->b, &g->op, false);
}

/* What another program says of the UIDs that it has given, as it stands in the file now. */
static int take_base(struct box *b)
{
    uint32_t validity, last;
    int r = base_read(b, &validity, &last);

    if (r < 0 || validity == 0)
        return r;
    b->ix.next->base_validity = validity;
    b->ix.next->base_last = last;
    return 0;
}

/* Where to begin to read. What we append under the locks under which the index was made true begins where the rest
 * ended: the message in front of it is as it was. Otherwise with that one. */
static uint64_t growth_begin(struct growth *g)
{
    const struct index_header *head = g->b->ix.head;

    g->has_last = g->b->is_own_growth && g->b->own_from == head->size &&
                  !(g->last.bits & (INDEX_IS_TORN | INDEX_HAS_STRAY | INDEX_LACKS_NEWLINE));
    return g->has_last ? head->size : g->last.offset;
}

/* A box that only grew. -ESTALE: it did not only grow. */
static int sync_growth(struct box *b)
{
    _cleanup_buf_ struct buf log = BUF_INIT(SYNC_LOG_BATCH * 2);
    struct growth g = {.b = b, .op = {.log = &log, .b = b, .now = clock_now(b->store->clock)}};
    const struct index_header *head = b->ix.head;
    struct sync_proof proof = {.proven = head->proven, .is_sampled = head->is_sampled};
    struct scan_result result = {0};
    int r;

    if (b->fd < 0 || head->live == 0 || head->dev != b->facts.st_dev || head->ino != b->facts.st_ino ||
        (uint64_t)b->facts.st_size <= head->size)
        return -ESTALE;
    if (!b->is_own_growth && !b->takes_unproven && (r = sync_verify(b, &proof)) < 0)
        return r;
    g.last = index_load(&b->ix, head->last);
    g.op.modseq = head->modseq + 1;
    g.op.uidnext = head->uidnext;
    g.op.seen = head->size;
    if (!index_is_valid(&g.last) || (r = index_begin(b)) < 0)
        return -ESTALE;
    g.op.h = b->ix.next;
    if (!b->is_own_growth)
        r = take_base(b);
    if (r == 0)
        r = scan_file(b->fd, growth_begin(&g), b->store->key, growth_visit, &g, &result);
    if (r == 0 && !g.has_last)
        r = -ESTALE;
    if (r == 0 && g.op.is_used) {
        b->ix.next->modseq = g.op.modseq;
        r = log_put_next(&log, b->ix.next->uidnext, b->ix.next->modseq);
    }
    if (r == 0 && log.len > 0)
        r = log_commit(b, &log, !b->store->is_delivery);
    if (r < 0) {
        index_abort(b);
        return r == -EBADMSG ? -ESTALE : r;
    }
    index_describe(b->ix.next, &b->facts);
    b->ix.next->size = result.end;
    if (!b->is_own_growth)
        b->ix.next->is_unproven = b->takes_unproven;
    b->ix.next->proven = proof.proven;
    b->ix.next->is_sampled = proof.is_sampled;
    if (b->is_own_growth && head->base_validity == head->uidvalidity)
        b->ix.next->base_last = b->ix.next->uidnext - 1;
    return index_end(b);
}

/* ---- all together ---- */

/* What deliveries left to whoever tells their UIDs. A UID that a client has seen must not be given again after a power
 * cut. */
static int settle_log(struct box *b)
{
    if (!b->is_log_lazy || b->store->is_delivery)
        return 0;
    if (fdatasync(b->log_fd) < 0)
        return -errno;
    b->is_log_lazy = false;
    /* One that cannot be written is synced again by the next. */
    if (index_begin(b) == 0)
        (void)index_end(b);
    return 0;
}

/* The index is there, whole, and made with this log; what the log has more is applied. */
static int open_sidecars(struct box *b, bool *ret_usable)
{
    struct stat st;
    int r;

    *ret_usable = false;
    if ((r = log_attach(b)) < 0 || (r = index_open(b)) < 0)
        return r;
    if (b->ix.head == NULL || !index_is_believable(b) || b->ix.head->is_dirty || b->log_id == 0 ||
        b->ix.head->log_id != b->log_id)
        return 0;
    if (fstat(b->log_fd, &st) < 0)
        return -errno;
    if ((uint64_t)st.st_size < b->ix.head->log_size)
        return 0;
    b->log_size = b->ix.head->log_size;
    b->is_log_lazy = b->ix.head->is_log_lazy;
    if ((uint64_t)st.st_size > b->log_size) {
        if ((r = index_begin(b)) < 0)
            return r;
        r = log_apply(b, b->log_size);
        if (r == -EBADMSG)
            return 0;
        if (r < 0 || (r = index_end(b)) < 0)
            return r;
    }
    *ret_usable = true;
    return settle_log(b);
}

/* Deleted or renamed: nothing is to be kept of what is not there. A file that only another program removed, as mutt
 * does with empty ones, has its state yet. */
static bool is_gone(const struct box *b)
{
    return b->fd < 0 && b->log_fd < 0 && !b->may_be_missing;
}

/* The index describes the file; what was taken on trust when it grew is looked at now. -ESTALE: not only that. */
static int prove(struct box *b)
{
    struct sync_proof proof;
    int r = sync_verify(b, &proof);

    if (r < 0 || (r = index_begin(b)) < 0)
        return r;
    b->ix.next->is_unproven = 0;
    b->ix.next->proven = proof.proven;
    b->ix.next->is_sampled = proof.is_sampled;
    return index_end(b);
}

/* A rebuild takes over what an index knows only from one that is whole; else from the log. */
static bool is_sound(const struct box *b)
{
    if (b->ix.head->magic != INDEX_MAGIC)
        return false;
    for (uint64_t i = 0; i < b->ix.head->count; i++) {
        struct index_record rec = index_load(&b->ix, i);
        if (!index_is_valid(&rec))
            return false;
    }
    return true;
}

/* What it does not have is read. */
static int catch_up(struct box *b, bool is_usable, bool is_current)
{
    int r;

    if (is_current && (r = prove(b)) != -ESTALE)
        return r;
    /* What we have just written ourselves is whole. */
    if (!b->is_own_growth && ((r = tail_look_torn(b, is_usable ? b->ix.head : NULL)) < 0 ||
                              (r = tail_look_holes(b, is_usable ? &b->ix : NULL, TAIL_ALL)) < 0))
        return r;
    if (is_usable) {
        r = sync_growth(b);
        if (r != -ESTALE)
            return r;
    }
    return rebuild(b, is_usable && is_sound(b));
}

int box_sync(struct box *b)
{
    bool is_usable, is_current, is_peek = b->is_peek;
    int r;

    if (b->side == NULL)
        return -EROFS;
    if ((r = open_sidecars(b, &is_usable)) < 0 || is_gone(b))
        return r < 0 ? r : -ESTALE;
    is_current = is_usable && index_describes(b->ix.head, &b->facts);
    if (is_current && !b->ix.head->is_unproven)
        return 0;
    file_peek(b, true);
    r = catch_up(b, is_usable, is_current);
    file_peek(b, is_peek);
    b->has_new |= r == 0 && b->ix.head->size != (uint64_t)b->facts.st_size; /* it came while we were reading */
    return r;
}

int box_sync_own(struct box *b)
{
    int r = sync_growth(b);

    return r == -ESTALE ? box_sync(b) : r;
}

int box_describe(struct box *b)
{
    uint64_t size = b->ix.head->size;
    int r;

    if (fstat(b->fd, &b->facts) < 0)
        return -errno;
    if ((r = index_begin(b)) < 0)
        return r;
    index_describe(b->ix.next, &b->facts);
    b->ix.next->size = size;
    return index_end(b);
}

int box_sync_cheap(struct box *b)
{
    struct stat st = {0};
    bool is_usable;
    int r;

    if (b->side == NULL)
        return -EROFS;
    if ((r = open_sidecars(b, &is_usable)) < 0)
        return r;
    if (lstat(b->path, &st) < 0 && errno != ENOENT)
        return -errno;
    return is_usable && index_describes(b->ix.head, &st) && !b->ix.head->is_unproven ? 0 : -EAGAIN;
}

/* With everything locked that `more` says. -EAGAIN: more has to be. */
static int sync_held(struct box *b, unsigned more)
{
    struct stat st;
    int r = 0;

    if (journal_exists(b)) {
        if (!(more & BOX_WRITE) && lstat(b->path, &st) == 0)
            return -EAGAIN;
        if (more & BOX_WRITE || (r = box_reopen(b)) == 0) /* no file: it is only put aside */
            r = journal_replay(b);
        if (r < 0)
            return r;
    }
    if (!(more & (BOX_READ | BOX_WRITE)))
        return box_sync_cheap(b);
    for (;;) {
        r = box_sync(b);
        if (r != -EUCLEAN)
            return r;
        if (b->is_writable && !(more & BOX_WRITE))
            return -EAGAIN;
        if (!b->is_writable)
            b->takes_torn = true;
        else if ((r = tail_cut(b, b->torn)) == -ENOBUFS)
            b->takes_torn = true; /* when there is room again */
        else if (r < 0)
            return r;
    }
}

int box_lock_synced(struct box *b, unsigned more)
{
    static const unsigned steps[] = {0, BOX_READ, BOX_WRITE};
    int r = -EAGAIN;

    /* As little as possible first: most often nothing changed. */
    for (size_t i = 0; r == -EAGAIN && i < ARRAY_SIZE(steps); i++) {
        unsigned kinds = more | steps[i];

        if (steps[i] < (more & (BOX_READ | BOX_WRITE)))
            continue;
        if (kinds & BOX_WRITE)
            kinds &= ~(unsigned)BOX_READ;
        if ((r = box_lock(b, BOX_STATE | kinds)) < 0)
            return r;
        if ((r = sync_held(b, kinds)) < 0)
            box_unlock(b);
    }
    return r;
}
