/*
 * Which message is which when an index is made anew: by the old index, else by state log and X-UIDs. Runs as the user
 * under BOX_STATE and at least BOX_READ.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/macros.h"
#include "shared/mbox/rebuild.h"

/* ---- what was known ---- */

static struct index_record known_from_log(const struct log_message *m)
{
    struct index_record rec = {.uid = m->uid, .modseq = m->modseq, .savedate = m->savedate};

    memcpy(rec.hash, m->hash, sizeof(rec.hash));
    return rec;
}

int rebuild_load_known(struct rebuild *rb)
{
    uint64_t count = rb->has_index ? rb->b->ix.head->count : rb->truth.count;
    int r;

    if ((r = match_init(&rb->match, count)) < 0)
        return r;
    for (uint64_t i = count; i-- > 0;) {
        if (rb->has_index) {
            struct index_record rec = index_load(&rb->b->ix, i);
            if (!(rec.bits & INDEX_EXPUNGED) && index_is_valid(&rec))
                match_add(&rb->match, i, rec.hash);
        } else if (rb->truth.messages[i].has_hash && !rb->truth.messages[i].is_expunged) {
            match_add(&rb->match, i, rb->truth.messages[i].hash);
        }
    }
    return 0;
}

uint32_t rebuild_known_uid(const void *context, uint64_t i)
{
    const struct rebuild *rb = context;

    return rb->has_index ? index_brief(&rb->b->ix, i)->uid : rb->truth.messages[i].uid;
}

static const uint8_t *known_hash(const void *context, uint64_t i)
{
    const struct rebuild *rb = context;

    return rb->has_index ? index_hash(&rb->b->ix, i) : rb->truth.messages[i].hash;
}

/* Without an index: what the log knows of a UID, on top of what the file says. */
static int merge_from_log(struct rebuild *rb, const struct log_message *m, struct index_record *rec)
{
    struct index_record known = known_from_log(m);

    known.internaldate = rec->internaldate;
    known.date_offset = rec->date_offset;
    known.savedate = m->savedate != 0 ? m->savedate : rec->savedate;
    known.bits = m->has_hash ? 0 : INDEX_UID_IN_FILE;
    known.file_flags = rec->file_flags;
    known.file_keywords = rec->file_keywords;
    known.flags = m->has_flags ? m->flags : rec->flags;
    known.keywords = m->has_flags ? m->keywords : rec->keywords;
    known.bits |= m->has_flags ? INDEX_PENDING : 0;
    rec->bits |= INDEX_HAS_INTEROP;
    if (known.modseq == 0) {
        known.modseq = rb->op.modseq;
        rb->op.is_used = true;
    }
    return sync_merge(&rb->op, &known, rec);
}

/* ---- which message is which ---- */

/* An X-UID of the file when only the log is there to check it. */
static bool claim_is_good(const struct rebuild *rb, const struct index_record *rec)
{
    const struct log_message *m;

    if (rec->uid == 0 || rec->uid >= rb->truth.uidnext || numset_has(&rb->claimed, rec->uid))
        return false;
    if (!(rec->bits & INDEX_HAS_MARKER) && rb->op.h->base_validity != rb->truth.uidvalidity)
        return false;
    m = log_truth_find(&rb->truth, rec->uid);
    return m == NULL || (!m->has_hash && !m->is_expunged);
}

static int merge_known(struct rebuild *rb, uint64_t i, struct index_record *rec)
{
    struct index_record known;

    if (rb->has_index) {
        known = index_load(&rb->b->ix, i);
        return sync_merge(&rb->op, &known, rec);
    }
    return merge_from_log(rb, &rb->truth.messages[i], rec);
}

/* Content and X-UID agree: no doubt at all, even among equal messages. */
static int identify_exactly(struct rebuild *rb, struct index_record *rec, bool *ret_known)
{
    const struct match_known known = {known_hash, rebuild_known_uid, rb};
    uint64_t i;

    *ret_known = rec->uid != 0 && match_find(&rb->match, rec->hash, rec->uid, &known, &i);
    return *ret_known ? merge_known(rb, i, rec) : 0;
}

/* Without an index: the X-UID, where nothing speaks against it. */
static int identify_by_claim(struct rebuild *rb, struct index_record *rec, bool *ret_known)
{
    struct log_message nothing = {.uid = rec->uid};
    struct log_message *m;
    int r;

    *ret_known = !rb->has_index && rb->truth.is_found && claim_is_good(rb, rec);
    if (!*ret_known)
        return 0;
    m = log_truth_find(&rb->truth, rec->uid);
    if ((r = numset_add(&rb->claimed, rec->uid, rec->uid)) < 0)
        return r;
    return merge_from_log(rb, m != NULL ? m : &nothing, rec);
}

static int identify_by_content(struct rebuild *rb, struct index_record *rec, bool *ret_known)
{
    const struct match_known known = {known_hash, rebuild_known_uid, rb};
    uint64_t i;

    *ret_known = match_find(&rb->match, rec->hash, 0, &known, &i);
    return *ret_known ? merge_known(rb, i, rec) : 0;
}

static int identify_as_new(struct rebuild *rb, struct index_record *rec, bool *ret_known)
{
    *ret_known = true;
    return sync_new(&rb->op, rec);
}

/* Rewrites the records with everything decided: the surest ways first, new ones behind all that are known. */
int rebuild_identify(struct rebuild *rb)
{
    static int (*const ways[])(struct rebuild *, struct index_record *,
                               bool *) = {identify_exactly, identify_by_claim, identify_by_content, identify_as_new};
    int r;

    for (size_t way = 0; way < ARRAY_SIZE(ways); way++) {
        for (uint64_t i = 0; i < rb->fresh.next->count; i++) {
            struct index_record rec;
            bool is_known;

            if (rb->uids[i] != 0)
                continue;
            rec = index_load(&rb->fresh, i);
            box_touch(rb->b);
            if ((r = ways[way](rb, &rec, &is_known)) < 0)
                return r;
            if (!is_known)
                continue;
            rb->uids[i] = rec.uid;
            if ((r = index_rewrite(&rb->fresh, i, &rec)) < 0 || (r = sync_log(rb->b, &rb->op, false)) < 0)
                return r;
        }
    }
    return index_map_fresh(&rb->fresh);
}
