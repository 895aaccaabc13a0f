/*
 * Writing flags and UIDs into the flag blocks of the mbox file, where mutt, alpine and Dovecot see them. Runs as the
 * user under BOX_WRITE and BOX_STATE. The state log has everything already: nothing is lost if this fails.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/macros.h"
#include "shared/mbox/base.h"
#include "shared/mbox/flush.h"
#include "shared/mbox/rewrite.h"
#include "shared/mbox/view.h"

int flush_keywords(const struct index_header *h, uint64_t bits, struct buf *out)
{
    int r = 0;

    for (unsigned n = 0; r == 0 && n < LIMIT_KEYWORDS; n++) {
        if (!(bits >> n & 1) || h->keywords[n][0] == '\0')
            continue;
        if (out->len > 0)
            r = buf_add_byte(out, ' ');
        if (r == 0)
            r = buf_add_str(out, str_from(h->keywords[n]));
    }
    return r;
}

/* The views of *block go into the two buffers. */
static int make_block(const struct index_header *h, const struct index_record *rec, bool has_base, struct buf *keywords,
                      struct buf *all, struct interop_block *block)
{
    int r;

    if ((r = flush_keywords(h, rec->keywords, keywords)) < 0)
        return r;
    if (has_base && (r = flush_keywords(h, UINT64_MAX, all)) < 0)
        return r;
    block->uid = rec->uid;
    block->flags = rec->flags | INTEROP_OLD;
    block->keywords = buf_str(keywords);
    if (has_base) {
        block->uidvalidity = h->uidvalidity;
        block->uidlast = h->uidnext - 1;
        block->base_keywords = buf_str(all);
    }
    return 0;
}

/* Renders the block of a message as it should be, with the length it has. -ENOBUFS: too much for it. */
int flush_render(const struct index_header *h, const struct index_record *rec, const struct interop_marker *marker,
                 bool has_base, size_t length, struct buf *out)
{
    _cleanup_buf_ struct buf keywords = BUF_INIT(LIMIT_KEYWORDS * (LIMIT_KEYWORD + 1));
    _cleanup_buf_ struct buf all = BUF_INIT(LIMIT_KEYWORDS * (LIMIT_KEYWORD + 1));
    struct interop_block block = {.marker = *marker};
    int r;

    if ((r = make_block(h, rec, has_base, &keywords, &all, &block)) < 0)
        return r;
    r = interop_block_write(&block, length, out);
    if (r == -ENOBUFS && has_base) { /* without the list of all keywords */
        block.base_keywords = STR_NULL;
        r = interop_block_write(&block, length, out);
    }
    return r;
}

int flush_least(const struct index_header *h, const struct index_record *rec, const struct interop_marker *marker,
                bool has_base, size_t *ret)
{
    _cleanup_buf_ struct buf keywords = BUF_INIT(LIMIT_KEYWORDS * (LIMIT_KEYWORD + 1));
    _cleanup_buf_ struct buf all = BUF_INIT(LIMIT_KEYWORDS * (LIMIT_KEYWORD + 1));
    struct interop_block block = {.marker = *marker};
    size_t least;
    int r;

    if ((r = make_block(h, rec, has_base, &keywords, &all, &block)) < 0)
        return r;
    if ((least = interop_block_min(&block)) == SIZE_MAX)
        return -ENOMEM;
    *ret = least;
    return 0;
}

void flush_mark(struct index_record *rec)
{
    rec->bits = (uint16_t)((rec->bits & ~INDEX_PENDING) | INDEX_UID_IN_FILE | INDEX_HAS_INTEROP);
    rec->file_flags = rec->flags | INTEROP_OLD;
    rec->file_keywords = rec->keywords;
}

bool flush_has_same_lines(const char *a, const char *b, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((a[i] == '\n') != (b[i] == '\n'))
            return false;
    return true;
}

struct flush {
    struct box *b;
    struct numset done;
    struct journal_plan patches; /* headers whose lines change places: all or none */
    struct numset patched;
    uint64_t grow; /* of the first message that needs room for a block; UINT64_MAX: none does */
    bool is_written;
};

static int add_patch(struct flush *f, uint64_t at, const struct buf *bytes, uint32_t uid)
{
    int r;

    if (f->patches.literals.len + bytes->len > JOURNAL_PATCH_MAX)
        return 0; /* the next flush goes on */
    if ((r = journal_plan_literal(&f->patches, bytes->data, bytes->len)) < 0)
        return r;
    f->patches.pieces[f->patches.count - 1].to = at;
    return numset_add(&f->patched, uid, uid);
}

/* Is there a place for it behind which not too much would have to move? */
static bool may_grow(const struct box *b, const struct index_record *rec)
{
    return b->ix.head->is_ordered && ((rec->bits & INDEX_PENDING) || base_wants_room(b, rec)) &&
           (uint64_t)b->facts.st_size - rec->offset <= REWRITE_GROW_MAX;
}

/* A message without a block, or with interop fields elsewhere too: its whole header, at equal length if that can be. */
static int flush_header(struct flush *f, const struct index_record *rec)
{
    _cleanup_buf_ struct buf fresh = BUF_INIT(REWRITE_HEADER_MAX * 2);
    size_t length;
    int r = rewrite_header(f->b, rec, may_grow(f->b, rec), &fresh, &length);

    if (r == -EFBIG || r == -ESTALE || r == -ENOBUFS)
        return 0; /* the state log keeps it */
    if (r < 0)
        return r;
    if (fresh.len == length)
        return add_patch(f, rec->offset + rec->from_length, &fresh, rec->uid);
    if (rec->offset < f->grow && may_grow(f->b, rec))
        f->grow = rec->offset;
    return 0;
}

/* The same lines at the same places: a torn write leaves a block that still is one, and the log knows better. */
static int flush_block(struct flush *f, const struct index_record *rec)
{
    _cleanup_buf_ struct buf fresh = BUF_INIT(UINT16_MAX + 1);
    _cleanup_free_ char *old = malloc(rec->block);
    uint64_t at = rec->offset + rec->from_length;
    struct interop_marker marker;
    const char *lf;
    int r;

    if (old == NULL)
        return -ENOMEM;
    if ((r = file_read(f->b->fd, old, rec->block, at)) < 0)
        return r;
    lf = memchr(old, '\n', rec->block);
    if (lf == NULL || !interop_marker_parse(str_trim((struct str){old, (size_t)(lf - old)}), &marker))
        return 0; /* not what the index says: the next scan will tell */
    r = flush_render(f->b->ix.head, rec, &marker, rec->offset == f->b->ix.head->prefix, rec->block, &fresh);
    if (r == -ENOBUFS || (r == 0 && base_wants_room(f->b, rec) && may_grow(f->b, rec)))
        return flush_header(f, rec);
    if (r < 0)
        return r;
    if (!index_is_unwritten(&rec->brief) && memcmp(old, fresh.data, rec->block) == 0)
        return 0; /* the first message: nothing new about the others */
    if (!flush_has_same_lines(old, fresh.data, rec->block))
        return add_patch(f, at, &fresh, rec->uid);
    f->is_written = true;
    if ((r = file_write(f->b->fd, fresh.data, fresh.len, at)) < 0)
        return r;
    return numset_add(&f->done, rec->uid, rec->uid);
}

static bool is_flushable(const struct box *b, const struct index_record *rec)
{
    if (!index_is_unwritten(&rec->brief))
        return false;
    if (rec->block > 0 && !(rec->bits & INDEX_HAS_STRAY))
        return true;
    return (rec->bits & INDEX_PENDING) && ((rec->bits & INDEX_HAS_STRAY) || may_grow(b, rec));
}

static int write_blocks(struct flush *f)
{
    struct box *b = f->b;
    int r = 0;

    for (uint64_t i = 0; r == 0 && i < b->ix.head->count; i++) {
        struct index_record rec = index_load(&b->ix, i);
        if ((!is_flushable(b, &rec) && !base_is_in(b, &rec) && !base_wants_room(b, &rec)) || !index_is_valid(&rec))
            continue;
        r = rec.block > 0 && !(rec.bits & INDEX_HAS_STRAY) ? flush_block(f, &rec) : flush_header(f, &rec);
    }
    if (r == 0 && f->is_written && fdatasync(b->fd) < 0)
        r = -errno;
    if (r == 0 && f->patches.count > 0 && (r = journal_patch(b, &f->patches)) == 0)
        r = numset_add_set(&f->done, &f->patched);
    return r;
}

static int record(struct flush *f)
{
    _cleanup_buf_ struct buf log = BUF_INIT(64u << 20);
    struct box *b = f->b;
    uint64_t size;
    int r;

    size = b->ix.head->size;
    if ((r = file_settle(b, size)) < 0 || (r = log_put_flushed(&log, &f->done)) < 0 ||
        (r = log_commit(b, &log, true)) < 0 || (r = index_begin(b)) < 0)
        return r;
    for (uint64_t i = 0; r == 0 && i < b->ix.head->count; i++) {
        const struct index_brief *brief = index_brief(&b->ix, i);
        struct index_record rec;

        if (!index_is_unwritten(brief) || !numset_has(&f->done, brief->uid))
            continue;
        rec = index_load(&b->ix, i);
        flush_mark(&rec);
        r = index_put(b, i, &rec);
    }
    if (r < 0)
        return r;
    index_describe(b->ix.next, &b->facts);
    b->ix.next->size = size; /* nothing of ours made it longer */
    return index_end(b);
}

/* The places of headers changed: the file, so long now, is looked at again, and then the log told that it has all. */
static int record_again(struct flush *f, uint64_t size)
{
    _cleanup_buf_ struct buf log = BUF_INIT(64u << 20);
    struct box *b = f->b;
    int r;

    if (f->done.count == 0)
        return 0;
    if ((r = file_settle(b, size)) < 0 || (r = box_sync(b)) < 0 || (r = log_put_flushed(&log, &f->done)) < 0 ||
        (r = log_commit(b, &log, true)) < 0 || (r = index_begin(b)) < 0)
        return r;
    return index_end(b);
}

static bool is_needed(const struct box *b)
{
    if (b->ix.head->unwritten == 0)
        return false;
    for (uint64_t i = 0; i < b->ix.head->count; i++) {
        struct index_record rec;

        if (!index_is_unwritten(index_brief(&b->ix, i)))
            continue;
        rec = index_load(&b->ix, i);
        if (is_flushable(b, &rec))
            return true;
    }
    return false;
}

static int flush_run(struct flush *f)
{
    struct box *b = f->b;
    uint64_t size = 0;
    int r = write_blocks(f);

    if (r == 0 && f->patched.count > 0)
        r = record_again(f, (uint64_t)b->facts.st_size);
    else if (r == 0 && f->done.count > 0)
        r = record(f);
    if (r < 0 || f->grow == UINT64_MAX)
        return r;
    numset_clear(&f->done);
    r = rewrite_grow(b, f->grow, &f->done, &size);
    return r == -EFBIG ? 0 : r < 0 ? r : record_again(f, size);
}

int box_flush(struct box *b)
{
    struct flush f = {.b = b, .grow = UINT64_MAX};
    int r;

    if (b->fd < 0 || !is_needed(b))
        return 0;
    journal_plan_init(&f.patches, 0, (uint64_t)b->facts.st_size);
    r = flush_run(&f);
    journal_plan_finish(&f.patches);
    numset_finish(&f.done);
    numset_finish(&f.patched);
    return r;
}

int mbox_flush(struct mbox *v)
{
    bool is_needed_now;
    int r;

    if (mbox_is_readonly(v))
        return 0;
    if ((r = box_lock_synced(v->b, 0)) < 0)
        return r == -ESTALE ? 0 : r; /* the mailbox is gone */
    is_needed_now = is_needed(v->b);
    box_unlock(v->b);
    if (!is_needed_now)
        return 0;
    if ((r = box_lock_synced(v->b, BOX_WRITE)) < 0)
        return r == -ENOENT ? 0 : r;
    r = v->b->ix.head->uidvalidity == v->uidvalidity ? box_flush(v->b) : 0;
    box_unlock(v->b);
    view_follow(v);
    return r;
}
