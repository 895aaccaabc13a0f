/*
 * Making a new index from the whole mbox file, and finding out which message is which: by the old index, else by state
 * log and X-UIDs, else by the file's own headers alone. Runs as the user under BOX_STATE and at least BOX_READ.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/macros.h"
#include "shared/mbox/base.h"
#include "shared/mbox/rebuild.h"
#include "shared/mbox/tail.h"

#define UID_JUMP 10000u /* over UIDs that may have been given before the state was lost */
#define GONE_MAX 10000u /* records of expunged messages that are carried along at least */

static int rebuild_visit(void *context, const struct scan_message *m)
{
    struct rebuild *rb = context;
    struct index_header *h = rb->op.h;
    struct index_record rec;
    int r;

    box_touch(rb->b);
    if (sync_is_void(rb->b, m)) {
        rb->b->torn = m->offset;
        return -EUCLEAN;
    }
    if (m->has_base) {
        if (base_is_sane(m->uidvalidity, m->uidlast)) {
            h->base_validity = m->uidvalidity;
            h->base_last = m->uidlast;
        }
        if ((r = keyword_bits(h->keywords, KEYWORDS_FOREIGN, m->base_keywords, rb->op.log, &rb->base_keywords)) < 0)
            return r;
    }
    if (m->is_pseudo) {
        h->prefix = m->offset + m->length;
        return 0;
    }
    if ((r = sync_record(&rb->op, m, &rec)) < 0)
        return r;
    rb->has_marker |= m->has_marker;
    return index_add(&rb->fresh, &rec);
}

static int rebuild_scan(struct rebuild *rb)
{
    struct box *b = rb->b;
    struct scan_result result = {0};
    int r = 0;

    if (b->fd >= 0) {
        r = scan_file(b->fd, 0, b->store->key, rebuild_visit, rb, &result);
        if (rb->fresh.next->prefix < result.prefix)
            rb->fresh.next->prefix = result.prefix;
    }
    if (r == 0)
        r = index_map_fresh(&rb->fresh);
    if (r == 0) {
        index_describe(rb->fresh.next, &b->facts);
        rb->fresh.next->size = result.end;
        rb->uids = calloc(rb->fresh.next->count + 1, sizeof(*rb->uids));
        r = rb->uids == NULL ? -ENOMEM : 0;
    }
    return r;
}

/* ---- no state: the headers of the file, or a new beginning ---- */

/* Do the X-UIDs ascend, with new mail at most behind them? */
static bool headers_are_good(const struct rebuild *rb, uint32_t *ret_last)
{
    uint32_t last = 0;
    bool is_tail = false;

    if (rb->op.h->base_validity == 0)
        return false;
    for (uint64_t i = 0; i < rb->fresh.next->count; i++) {
        uint32_t uid = index_brief(&rb->fresh, i)->uid;

        if (uid == 0 || uid > rb->op.h->base_last + UID_JUMP) {
            is_tail = true;
            continue;
        }
        if (is_tail || uid <= last)
            return false;
        last = uid;
    }
    *ret_last = last > rb->op.h->base_last ? last : rb->op.h->base_last;
    return true;
}

static int begin_anew(struct rebuild *rb)
{
    struct index_header *h = rb->op.h;
    struct box *b = rb->b;
    bool is_lost = rb->has_marker || rb->truth.is_damaged || rb->truth.is_found;
    uint32_t last;
    int r;

    /* Before anything is believed: without a state nobody can say that the end was ever seen. */
    rb->op.uidnext = 0;
    for (uint64_t i = 0; i < rb->fresh.next->count; i++) {
        struct index_record rec = index_load(&rb->fresh, i);
        if (tail_is_torn(b, &rec, false, &b->torn))
            return -EUCLEAN;
    }
    if ((r = store_mailboxid(b->store, b->name, h->mailboxid)) < 0)
        return r;
    if (b->store->parent == NULL && headers_are_good(rb, &last)) {
        h->uidvalidity = h->base_validity;
        h->uidnext = last + 1;
        if (is_lost && h->uidnext < UINT32_MAX - UID_JUMP)
            h->uidnext += UID_JUMP;
        h->modseq = (uint64_t)(rb->op.now > 0 ? rb->op.now : 1) << 16;
        for (uint64_t i = 0; i < rb->fresh.next->count; i++)
            if (index_brief(&rb->fresh, i)->uid <= last)
                rb->uids[i] = index_brief(&rb->fresh, i)->uid;
    } else {
        if ((r = store_uidvalidity(b->store, &h->uidvalidity)) < 0)
            return r;
        h->uidnext = 1;
        h->modseq = 1;
    }
    if (is_lost && rb->fresh.next->count > 0)
        (void)store_notice(b->store, "%s: state lost or damaged; UIDVALIDITY %u, next UID %u", b->name, h->uidvalidity,
                           h->uidnext);
    rb->op.modseq = h->modseq;
    rb->op.is_used = true;
    return 0;
}

/* The UIDs that begin_anew() took over from the headers. */
static int take_headers(struct rebuild *rb)
{
    int r = 0;

    for (uint64_t i = 0; r == 0 && i < rb->fresh.next->count; i++) {
        struct index_record rec;

        if (rb->uids[i] == 0)
            continue;
        rec = index_load(&rb->fresh, i);
        rec.bits |= INDEX_UID_IN_FILE;
        rec.modseq = rb->op.modseq;
        r = index_rewrite(&rb->fresh, i, &rec);
    }
    return r < 0 ? r : index_map_fresh(&rb->fresh);
}

/* ---- the header ---- */

static void take_header(struct rebuild *rb)
{
    struct index_header *h = rb->fresh.next;
    const struct index_header *old = rb->b->ix.head;

    if (rb->has_index) {
        h->uidvalidity = old->uidvalidity;
        h->uidnext = old->uidnext;
        h->recent = old->recent;
        h->modseq = old->modseq;
        h->cache_id = old->cache_id;
        h->expunges = old->expunges;
        memcpy(h->mailboxid, old->mailboxid, sizeof(h->mailboxid));
        memcpy(h->keywords, old->keywords, sizeof(h->keywords));
    } else if (rb->truth.is_found) {
        h->uidvalidity = rb->truth.uidvalidity;
        h->uidnext = rb->truth.uidnext;
        h->recent = rb->truth.recent;
        h->modseq = rb->truth.modseq;
        memcpy(h->mailboxid, rb->truth.mailboxid, sizeof(h->mailboxid));
        memcpy(h->keywords, rb->truth.keywords, sizeof(h->keywords));
        rb->b->log_size = rb->truth.size;
    }
    rb->op = (struct sync_op){.h = h,
                              .b = rb->b,
                              .log = &rb->log,
                              .modseq = h->modseq + 1,
                              .now = clock_now(rb->b->store->clock),
                              .uidnext = h->uidnext};
    if (rb->has_index && old->dev == rb->b->facts.st_dev && old->ino == rb->b->facts.st_ino)
        rb->op.seen = old->size;
    h->generation = old == NULL ? 1 : old->generation + 1;
    if (old != NULL) {
        memcpy(h->sizes, old->sizes, sizeof(h->sizes));
        h->sizes_next = old->sizes_next;
    }
}

/* What was known and is not there any more. */
static int log_gone(struct rebuild *rb)
{
    _cleanup_numset_ struct numset gone = NUMSET_INIT;
    uint64_t i;
    int r = 0;

    for (bool has = match_left(&rb->match, 0, &i); r == 0 && has; has = match_left(&rb->match, i + 1, &i))
        r = numset_add(&gone, rebuild_known_uid(rb, i), rebuild_known_uid(rb, i));
    if (r < 0 || gone.count == 0)
        return r;
    rb->op.is_used = true;
    return log_put_expunged(&rb->log, rb->op.modseq, &gone);
}

static int finish_log(struct rebuild *rb)
{
    struct index_header *h = rb->fresh.next;
    int r = 0;

    rb->op.is_used |= sync_skip_given(h);
    if (rb->op.is_used)
        h->modseq = rb->op.modseq;
    if (!rb->has_index) /* what vanished meanwhile is not known */
        r = log_put_base(&rb->log, h, h->modseq);
    else if (rb->op.is_used)
        r = log_put_next(&rb->log, h->uidnext, h->modseq);
    if (r == 0 && rb->log.len > 0)
        r = sync_log(rb->b, &rb->op, true);
    return r;
}

static int start_log(struct rebuild *rb)
{
    _cleanup_buf_ struct buf first = BUF_INIT(64u << 10);
    int r = log_put_base(&first, rb->fresh.next, rb->fresh.next->modseq);

    for (unsigned n = 0; r == 0 && n < LIMIT_KEYWORDS; n++)
        if (rb->fresh.next->keywords[n][0] != '\0')
            r = log_put_keyword(&first, n, rb->fresh.next->keywords[n]);
    buf_clear(&rb->log);
    return r < 0 ? r : log_replace(rb->b, &first);
}

/* ---- the new index ---- */

/* Records of what is gone stay for those who still have it in their view, unless there are too many of them. */
static bool keeps_gone(const struct rebuild *rb)
{
    const struct index_header *old = rb->b->ix.head;
    uint64_t i;

    return rb->has_index && old->count - old->live <= 2 * old->live + GONE_MAX &&
           (old->count > old->live || match_left(&rb->match, 0, &i));
}

/* The records of the old index from *at on whose UIDs are below `uid` and that no message has now. */
static int add_gone(struct rebuild *rb, uint64_t *at, uint32_t uid)
{
    const struct index_header *old = rb->b->ix.head;
    int r = 0;

    for (; r == 0 && *at < old->count && index_brief(&rb->b->ix, *at)->uid < uid; ++*at) {
        struct index_record rec = index_load(&rb->b->ix, *at);
        if (!(rec.bits & INDEX_EXPUNGED)) {
            if (!match_is_left(&rb->match, *at))
                continue; /* found */
            rec.bits |= INDEX_EXPUNGED;
            rec.modseq = rb->op.modseq;
            rb->fresh.next->expunges = rb->op.modseq;
        }
        r = index_add(&rb->fresh, &rec);
    }
    return r;
}

/* What the header says of all messages: number `at` of the index is this one. */
static void describe_record(struct index_header *h, uint64_t at, const struct index_record *rec, uint64_t *last_offset)
{
    if (rec->offset >= *last_offset) {
        *last_offset = rec->offset;
        h->last = at;
    }
    if (h->recent == 0 && !(rec->file_flags & INTEROP_OLD) && !(rec->flags & MBOX_SEEN))
        h->recent = rec->uid;
}

/* Writes the records once more, in the order of UIDs and with those of what is gone. */
static int reorder(struct rebuild *rb, const uint32_t *order, bool has_gone)
{
    uint64_t count = rb->fresh.next->count, last_offset = 0, gone = 0;
    struct index_header *h;
    int r;

    rb->found = rb->fresh;
    rb->fresh = (struct index){.fd = -1};
    if ((r = index_again(rb->b, rb->found.next, &rb->fresh)) < 0)
        return r;
    h = rb->fresh.next;
    for (uint64_t i = 0; r == 0 && i < count; i++) {
        struct index_record rec = index_load(&rb->found, order == NULL ? i : order[i]);
        if (has_gone && (r = add_gone(rb, &gone, rec.uid)) < 0)
            return r;
        describe_record(h, h->count, &rec, &last_offset);
        r = index_add(&rb->fresh, &rec);
    }
    return r == 0 && has_gone ? add_gone(rb, &gone, UINT32_MAX) : r;
}

static int write_index(struct rebuild *rb)
{
    uint64_t last_offset = 0;
    _cleanup_free_ uint32_t *order = NULL;
    struct index_header *h = rb->fresh.next;
    bool has_gone = keeps_gone(rb);
    int r = uid_order(rb->uids, h->count, &order);

    if (r < 0)
        return r;
    h->live = h->count;
    h->is_ordered = order == NULL;
    if (order != NULL || has_gone) {
        r = reorder(rb, order, has_gone);
        h = rb->fresh.next;
    } else {
        for (uint64_t i = 0; i < h->count; i++) {
            struct index_record rec = index_load(&rb->fresh, i);
            describe_record(h, i, &rec, &last_offset);
        }
        h->first_unseen = h->unseen == 0 ? 0 : h->first_unseen;
    }
    if (r < 0)
        return r;
    if (h->recent == 0)
        h->recent = h->uidnext;
    return index_install(rb->b, &rb->fresh);
}

static int rebuild_run(struct rebuild *rb)
{
    int r;

    if (!rb->has_index && (r = log_read(rb->b, &rb->truth)) < 0)
        return r;
    if ((r = index_new(rb->b, &rb->fresh)) < 0)
        return r;
    take_header(rb);
    if ((r = rebuild_scan(rb)) < 0 || (r = rebuild_load_known(rb)) < 0)
        return r;
    if (!rb->has_index && (!rb->truth.is_found || rb->truth.is_damaged)) {
        match_finish(&rb->match);
        if ((r = begin_anew(rb)) < 0 || (r = start_log(rb)) < 0 || (r = take_headers(rb)) < 0)
            return r;
    }
    if ((r = rebuild_identify(rb)) < 0 || (r = log_gone(rb)) < 0 || (r = finish_log(rb)) < 0)
        return r;
    return write_index(rb);
}

int rebuild(struct box *b, bool has_index)
{
    struct rebuild rb = {
        .b = b, .has_index = has_index, .fresh = {.fd = -1}, .found = {.fd = -1}, .log = BUF_INIT(SYNC_LOG_BATCH * 2)};
    int r = rebuild_run(&rb);

    match_finish(&rb.match);
    index_finish(&rb.found);
    index_discard(b, &rb.fresh);
    log_truth_finish(&rb.truth);
    buf_finish(&rb.log);
    numset_finish(&rb.claimed);
    free(rb.uids);
    return r;
}
