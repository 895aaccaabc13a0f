/*
 * Headers made anew. Runs as the user under BOX_WRITE and BOX_STATE.
 */
#include "shared/mbox/rewrite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/macros.h"
#include "shared/mbox/base.h"
#include "shared/mbox/flush.h"
#include "shared/mbox/remember.h"

#define GROWTH_PLANS 8u /* so often is one tried that nobody mistakes */

/* Takes the fields that are kept out of a stored header; *marker: what its marker line says, if that is its first. */
static int strip(struct str header, bool has_marker, struct interop_marker *marker, struct buf *out)
{
    bool is_hidden = false, is_first = true;
    int r;

    while (header.len > 0) {
        const char *lf = memchr(header.ptr, '\n', header.len);
        struct str line = str_sub(header, 0, lf == NULL ? header.len : (size_t)(lf - header.ptr) + 1);

        if (is_first || (line.ptr[0] != ' ' && line.ptr[0] != '\t')) {
            enum interop_field field = interop_field(line);

            if (!has_marker && (field == INTEROP_MARKER || field == INTEROP_PAD))
                return -ESTALE; /* text of a stranger's: behind a marker it would become ours */
            is_hidden = interop_is_hidden(field);
        }
        if (is_first && has_marker && !interop_marker_parse(str_trim(line), marker))
            return -ESTALE;
        is_first = false;
        if (!is_hidden && (r = buf_add_str(out, line)) < 0)
            return r;
        header = str_sub(header, line.len, header.len);
    }
    return 0;
}

/* A folded line may not come to stand behind our block: it would be taken for a part of it. */
static bool begins_folded(const struct buf *header)
{
    return header->len > 0 && (header->data[0] == ' ' || header->data[0] == '\t');
}

/* What is not interop, and how long the rest was. */
static int read_span(struct box *b, const struct index_record *rec, size_t span, struct interop_marker *marker,
                     struct buf *kept, size_t *ret_interop)
{
    _cleanup_buf_ struct buf old = BUF_INIT(REWRITE_HEADER_MAX + 1);
    int r;

    if ((r = buf_reserve(&old, span + 1)) < 0 ||
        (r = file_read(b->fd, old.data, span, rec->offset + rec->from_length)) < 0)
        return r == -ENODATA ? -ESTALE : r;
    old.len = span;
    if ((r = strip(buf_str(&old), (rec->bits & INDEX_HAS_MARKER) != 0, marker, kept)) < 0)
        return r;
    if (begins_folded(kept) || (old.len > 0 && old.data[old.len - 1] != '\n'))
        return -ESTALE;
    *ret_interop = old.len - kept->len;
    return 0;
}

/* See rewrite_header(); with so many bytes more than that if it grows. */
static int make_header(struct box *b, const struct index_record *rec, bool may_grow, size_t extra, struct buf *out,
                       size_t *ret_length)
{
    _cleanup_buf_ struct buf kept = BUF_INIT(REWRITE_HEADER_MAX + 1);
    struct interop_marker marker = {.savedate = rec->savedate, .zone = rec->date_offset};
    bool has_base = rec->offset == b->ix.head->prefix;
    size_t interop, least, length;
    int r;

    if (rec->header > REWRITE_HEADER_MAX)
        return -EFBIG;
    if ((r = read_span(b, rec, rec->header, &marker, &kept, &interop)) < 0 ||
        (r = flush_least(b->ix.head, rec, &marker, has_base, &least)) < 0)
        return r;
    length = interop;
    if (least > interop && may_grow) { /* with room to spare, so that it does not have to again */
        length = least + INTEROP_BLOCK + extra;
        if (marker.form != INTEROP_FOREIGN)
            marker.length += length - interop;
    }
    if (length > UINT16_MAX)
        return -ENOBUFS;
    r = flush_render(b->ix.head, rec, &marker, has_base, length, out);
    if (r == 0)
        r = buf_add_str(out, buf_str(&kept));
    if (r == 0)
        *ret_length = rec->header;
    return r;
}

int rewrite_header(struct box *b, const struct index_record *rec, bool may_grow, struct buf *out, size_t *ret_length)
{
    return make_header(b, rec, may_grow, 0, out, ret_length);
}

/* How long the new block is to be. */
static int choose_block(struct box *b, const struct index_record *rec, const struct interop_marker *marker,
                        bool has_base, int64_t old, int64_t room, int64_t *ret)
{
    size_t least;
    int r;

    *ret = old + room;
    if (room == REWRITE_LEAST) {
        if ((r = flush_least(b->ix.head, rec, marker, has_base, &least)) < 0)
            return r;
        *ret = (int64_t)least + 16 > INTEROP_BLOCK ? (int64_t)least + 16 : INTEROP_BLOCK;
        if (has_base && *ret < INTEROP_BLOCK_FIRST)
            *ret = INTEROP_BLOCK_FIRST;
    }
    return *ret < 0 || *ret > UINT16_MAX ? -ENOBUFS : 0;
}

int rewrite_head(struct box *b, const struct index_record *rec, bool has_base, int64_t room, struct buf *out,
                 struct rewrite_head *ret)
{
    _cleanup_buf_ struct buf kept = BUF_INIT(REWRITE_HEADER_MAX + 1);
    struct interop_marker marker = {.savedate = rec->savedate, .zone = rec->date_offset};
    bool is_block_only = rec->block > 0 && !(rec->bits & INDEX_HAS_STRAY);
    size_t span = is_block_only ? rec->block : rec->header, start = out->len, interop;
    int64_t block;
    int r;

    if (span > REWRITE_HEADER_MAX || (rec->bits & INDEX_LACKS_NEWLINE))
        return -EFBIG;
    if ((r = read_span(b, rec, span, &marker, &kept, &interop)) < 0)
        return r;
    if (is_block_only && kept.len > 0)
        return -ESTALE;
    if ((r = choose_block(b, rec, &marker, has_base, (int64_t)interop, room, &block)) < 0)
        return r;
    if (marker.form != INTEROP_FOREIGN)
        marker.length += (uint64_t)(block - (int64_t)interop);
    if ((r = buf_reserve(out, rec->from_length + (size_t)block + kept.len)) < 0 ||
        (r = file_read(b->fd, out->data + start, rec->from_length, rec->offset)) < 0)
        return r == -ENODATA ? -ESTALE : r;
    out->len = start + rec->from_length;
    r = flush_render(b->ix.head, rec, &marker, has_base, (size_t)block, out);
    if (r == 0)
        r = buf_add_str(out, buf_str(&kept));
    if (r < 0) {
        buf_truncate(out, start);
        return r;
    }
    *ret = (struct rewrite_head){
        .span = rec->from_length + span, .block = (size_t)block, .room = block - (int64_t)interop};
    return 0;
}

static bool wants_block(const struct box *b, const struct index_record *rec)
{
    if (base_wants_room(b, rec))
        return true;
    return !(rec->bits & INDEX_EXPUNGED) && !(rec->bits & INDEX_LACKS_NEWLINE) &&
           (rec->block == 0 || (rec->bits & (INDEX_PENDING | INDEX_HAS_STRAY)) || !(rec->bits & INDEX_UID_IN_FILE));
}

struct growth {
    struct box *b;
    struct journal_plan plan;
    struct numset *uids;
    uint64_t place;     /* where the next message will begin */
    size_t extra;       /* by so much more grows the first that does */
    bool is_mistakable; /* see remember.h */
};

static int add_message(struct growth *g, const struct index_record *rec)
{
    _cleanup_buf_ struct buf header = BUF_INIT(REWRITE_HEADER_MAX * 2);
    uint64_t body = rec->offset + rec->from_length;
    size_t old_length;
    int r = -EFBIG;

    g->place += rec->length;
    if (wants_block(g->b, rec))
        r = make_header(g->b, rec, true, g->extra, &header, &old_length);
    if (r == -EFBIG || r == -ESTALE || r == -ENOBUFS) /* as it is */
        return journal_plan_copy(&g->plan, rec->offset, rec->length);
    if (r < 0)
        return r;
    g->place += header.len - old_length;
    g->extra = header.len > old_length ? 0 : g->extra;
    if ((r = journal_plan_copy(&g->plan, rec->offset, rec->from_length)) < 0 ||
        (r = journal_plan_literal(&g->plan, header.data, header.len)) < 0 ||
        (r = journal_plan_copy(&g->plan, body + old_length, rec->length - rec->from_length - old_length)) < 0)
        return r;
    return numset_add(g->uids, rec->uid, rec->uid);
}

static int plan_growth(struct growth *g, uint64_t first)
{
    struct box *b = g->b;
    uint64_t at = first;
    int r = 0;

    for (uint64_t i = 0; r == 0 && i < b->ix.head->count; i++) {
        struct index_record rec;

        if ((index_brief(&b->ix, i)->bits & INDEX_EXPUNGED) || index_offset(&b->ix, i) < first)
            continue;
        rec = index_load(&b->ix, i);
        if (!index_is_valid(&rec) || rec.offset != at)
            return index_spoil(b);
        r = add_message(g, &rec);
        at = rec.offset + rec.length;
        g->is_mistakable |= remember_has(b->ix.head, g->place);
    }
    return r == 0 && at != (uint64_t)b->facts.st_size ? index_spoil(b) : r;
}

int rewrite_grow(struct box *b, uint64_t first, struct numset *ret_uids, uint64_t *ret_size)
{
    uint64_t size = (uint64_t)b->facts.st_size;
    struct growth g;
    int r;

    *ret_size = size;
    if (!b->ix.head->is_ordered || b->ix.head->size != size || size - first > REWRITE_GROW_MAX)
        return 0; /* mail that has come this moment waits for the next flush, too */
    if ((r = remember_sizes(b, first)) < 0)
        return r;
    for (size_t n = 0; n < GROWTH_PLANS; n++) {
        g = (struct growth){.b = b, .uids = ret_uids, .place = first, .extra = n * REMEMBER_STEP};
        numset_clear(ret_uids);
        journal_plan_init(&g.plan, first, size);
        r = plan_growth(&g, first);
        if (r < 0 || ret_uids->count == 0 || !g.is_mistakable || n + 1 == GROWTH_PLANS)
            break;
        journal_plan_finish(&g.plan);
    }
    if (r == 0 && ret_uids->count > 0)
        r = journal_grow(b, &g.plan);
    *ret_size = journal_plan_end(&g.plan);
    journal_plan_finish(&g.plan);
    return r;
}
