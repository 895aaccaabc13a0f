/*
 * Did a file that grew change nowhere else? A foreign program may have flipped a flag in the middle, at equal length,
 * just before mail arrived. Small files are read again whole; of large ones some messages, all over the file, and each
 * time the next part of it. Runs as the user under BOX_READ and BOX_STATE.
 */
#include <errno.h>
#include <string.h>

#include "shared/base/macros.h"
#include "shared/mbox/sync.h"

#define VERIFY_ALL    (64u << 20) /* bytes: some 20 ms */
#define VERIFY_SAMPLE 64u
#define VERIFY_ONE    (VERIFY_ALL / VERIFY_SAMPLE) /* a longer message is not read again */
#define VERIFY_PART   (16u << 20)                  /* bytes: some 5 ms */
#define VERIFY_STOP   1

struct verify {
    struct box *b;
    uint64_t at;   /* record that must come next */
    uint64_t last; /* record to stop at */
    uint64_t stop; /* place to stop at, 0: none */
    bool is_single;
};

static bool is_same(struct verify *v, const struct index_record *rec, const struct scan_message *m)
{
    _cleanup_buf_ struct buf log = BUF_INIT(64u << 10);
    _uninitialized_ char keywords[LIMIT_KEYWORDS][INDEX_KEYWORD_SIZE]; /* of many messages, few have any */
    uint64_t bits = 0;

    if (rec->offset != m->offset || rec->length != m->length || memcmp(rec->hash, m->hash, sizeof(rec->hash)) != 0 ||
        rec->file_flags != m->flags || ((rec->bits & INDEX_UID_IN_FILE) && rec->uid != m->uid))
        return false;
    if (m->keywords.len == 0)
        return rec->file_keywords == 0;
    memcpy(keywords, v->b->ix.head->keywords, sizeof(keywords));
    return keyword_bits(keywords, sync_keywords_most(m), m->keywords, &log, &bits) == 0 && bits == rec->file_keywords;
}

static int verify_visit(void *context, const struct scan_message *m)
{
    struct verify *v = context;
    const struct index *ix = &v->b->ix;
    struct index_record rec;

    box_touch(v->b);
    if (m->has_base && sync_is_behind(v->b->ix.head, m->uidvalidity, m->uidlast))
        return -ESTALE;
    if (m->is_pseudo && !v->is_single)
        return 0;
    while (v->at < v->last && (index_brief(ix, v->at)->bits & INDEX_EXPUNGED))
        v->at++;
    if (v->stop > 0 && m->offset >= v->stop)
        return VERIFY_STOP;
    rec = index_load(ix, v->at);
    if (v->at == v->last && !v->is_single)
        return rec.offset == m->offset ? VERIFY_STOP : -ESTALE;
    if (!is_same(v, &rec, m))
        return -ESTALE;
    v->at++;
    return v->is_single ? VERIFY_STOP : 0;
}

/* Of a scan that should have come to its stop. */
static int verdict(int r)
{
    return r == VERIFY_STOP ? 0 : r == 0 || r == -EBADMSG ? -ESTALE : r;
}

static int verify_scan(struct verify *v, uint64_t offset)
{
    struct scan_result result;

    return verdict(scan_file(v->b->fd, offset, v->b->store->key, verify_visit, v, &result));
}

/* One message as it stands alone in a large file. */
int sync_verify_record(struct box *b, uint64_t at)
{
    struct verify v = {.b = b, .at = at, .is_single = true};
    struct index_record rec = index_load(&b->ix, at);

    return verdict(scan_message(b->fd, rec.offset, rec.length, b->store->key, verify_visit, &v));
}

/* Some messages, all over the file. */
static int verify_samples(struct box *b)
{
    const struct index_header *h = b->ix.head;
    int r = 0;

    for (uint64_t i = 0, at, next = 0; r == 0 && i < VERIFY_SAMPLE; i++) {
        struct index_record rec;

        at = h->count * i / VERIFY_SAMPLE;
        rec = index_load(&b->ix, at);
        if (at < next || at == h->last || (rec.bits & INDEX_EXPUNGED) || rec.length > VERIFY_ONE)
            continue;
        next = at + 1;
        r = sync_verify_record(b, at);
    }
    return r;
}

/* The next part of a large file, so that a few growths later all of it was looked at. */
static int verify_part(struct box *b, uint32_t *ret_proven)
{
    const struct index_header *h = b->ix.head;
    struct verify v = {.b = b, .at = h->proven, .last = h->last};
    struct index_record rec;
    int r;

    while (v.at < v.last && (index_brief(&b->ix, v.at)->bits & INDEX_EXPUNGED))
        v.at++;
    if (!h->is_ordered || v.at >= v.last) {
        *ret_proven = 0;
        return 0;
    }
    rec = index_load(&b->ix, v.at);
    v.stop = rec.offset + VERIFY_PART;
    r = verify_scan(&v, rec.offset);
    *ret_proven = v.at >= v.last ? 0 : (uint32_t)v.at;
    return r;
}

int sync_verify(struct box *b, struct sync_proof *ret)
{
    const struct index_header *h = b->ix.head;
    struct sync_proof proof = {.is_sampled = h->is_sampled != 0};
    int r;

    if (h->size <= VERIFY_ALL) {
        struct verify v = {.b = b, .last = h->last};

        proof.is_sampled = false;
        r = h->is_ordered ? verify_scan(&v, 0) : -ESTALE;
    } else {
        proof.is_sampled = true;
        r = verify_samples(b);
        if (r == 0)
            r = verify_part(b, &proof.proven);
    }
    *ret = proof;
    return r;
}
