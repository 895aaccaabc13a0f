/*
 * Copying and moving between mailboxes: read here, appended and synced there, and only then removed here. Runs as the
 * user; no two mailboxes are locked at the same time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/macros.h"
#include "shared/mbox/fromline.h"
#include "shared/mbox/view.h"

/* What was copied of each message besides its bytes, in ascending order of UIDs. */
struct copied {
    struct copied_flags {
        uint32_t uid;
        struct mbox_flags flags;
    } * flags;
    size_t count;
    size_t cap;
};

static int copied_add(struct copied *c, const struct index_record *rec)
{
    if (c->count == c->cap) {
        size_t cap = c->cap == 0 ? 16 : c->cap * 2;
        struct copied_flags *more = realloc(c->flags, cap * sizeof(*more));

        if (more == NULL)
            return -ENOMEM;
        c->flags = more;
        c->cap = cap;
    }
    c->flags[c->count++] = (struct copied_flags){rec->uid, {.system = rec->flags, .keywords = rec->keywords}};
    return 0;
}

/* The sender of the From_ line. */
static int read_sender(struct mbox *v, const struct index_record *rec, struct buf *out)
{
    char line[FROMLINE_MAX + 2];
    struct fromline from;
    size_t n = rec->from_length < sizeof(line) ? rec->from_length : sizeof(line);
    int r;

    if ((r = box_lock(v->b, BOX_READ)) < 0)
        return r;
    r = v->b->fd < 0 ? -ESTALE : file_read(v->b->fd, line, n, rec->offset);
    box_unlock(v->b);
    if (r < 0)
        return r == -ENODATA ? -ESTALE : r;
    if (!fromline_parse(str_trim((struct str){line, n}), &from))
        return 0; /* it moved just now: the sender is not worth an error */
    return buf_add_str(out, str_sub(from.sender, 0, LIMIT_PATH));
}

static int copy_bytes(struct mbox *v, uint32_t seq, struct mbox_append *a)
{
    struct mbox_stream *m;
    struct str piece;
    int r;

    if ((r = mbox_stream_new(v, seq, &m)) < 0)
        return r;
    do {
        r = mbox_stream_next(m, &piece);
        if (r == 0 && piece.len > 0)
            r = mbox_append_write(a, piece.ptr, piece.len);
    } while (r == 0 && piece.len > 0);
    mbox_stream_free(m);
    return r;
}

static int copy_one(struct mbox *v, uint32_t seq, struct mbox_append *a, struct copied *copied)
{
    _cleanup_buf_ struct buf sender = BUF_INIT(LIMIT_PATH);
    char names[LIMIT_KEYWORDS][INDEX_KEYWORD_SIZE];
    struct str keywords[LIMIT_KEYWORDS];
    struct mbox_append_options options = {.keywords = keywords, .size_max = UINT64_MAX};
    struct index_record rec;
    int r;

    if ((r = view_record(v, seq, &rec)) < 0)
        return r;
    if (rec.bits & INDEX_EXPUNGED)
        return -ESTALE;
    if ((r = read_sender(v, &rec, &sender)) < 0)
        return r;
    for (unsigned n = 0; n < LIMIT_KEYWORDS; n++) {
        if (!(rec.keywords >> n & 1))
            continue;
        memcpy(names[options.keyword_count], v->ix.head->keywords[n], INDEX_KEYWORD_SIZE);
        names[options.keyword_count][LIMIT_KEYWORD] = '\0';
        keywords[options.keyword_count] = str_from(names[options.keyword_count]);
        options.keyword_count += keywords[options.keyword_count].len > 0;
    }
    options.sender = buf_str(&sender);
    options.flags.system = rec.flags;
    options.internaldate = rec.internaldate != 0 ? rec.internaldate : -1; /* 0 would be now */
    options.internaldate_offset = rec.date_offset;
    if ((r = mbox_append_message(a, &options)) < 0 || (r = copied_add(copied, &rec)) < 0)
        return r;
    return copy_bytes(v, seq, a);
}

/* Gathers the messages that are still there; -ESTALE when one vanishes meanwhile: all or none. */
static int gather(struct mbox *v, const struct numset *uids, struct mbox_append *a, struct numset *from,
                  struct copied *copied)
{
    int r = 0;

    for (size_t i = 0; i < uids->count; i++) {
        uint32_t seq = mbox_seq_from(v, uids->ranges[i].first);

        for (; r == 0 && seq <= mbox_count(v); seq++) {
            uint32_t uid = index_brief(&v->ix, view_position(v, seq))->uid;

            if (uid > uids->ranges[i].last)
                break;
            if (index_brief(&v->ix, view_position(v, seq))->bits & INDEX_EXPUNGED)
                continue;
            if ((r = copy_one(v, seq, a, copied)) == 0)
                r = numset_add(from, uid, uid);
        }
        if (r < 0)
            break;
    }
    return r;
}

/* Flags of a message in another mailbox, whose keywords may have other numbers. */
static int set_there(struct mbox *v, struct mbox *there, uint32_t uid, const struct mbox_flags *flags)
{
    _cleanup_numset_ struct numset uids = NUMSET_INIT;
    struct mbox_flags next = {.system = flags->system};
    int r = numset_add(&uids, uid, uid);

    for (unsigned n = 0; r == 0 && n < LIMIT_KEYWORDS; n++) {
        struct str name = flags->keywords >> n & 1 ? mbox_keyword(v, n) : STR("");
        unsigned number;

        if (name.len == 0 || (r = mbox_keyword_number(there, name, true, &number)) < 0)
            continue;
        next.keywords |= UINT64_C(1) << number;
    }
    return r < 0 && r != -ENOSPC ? r : mbox_set_flags(there, &uids, MBOX_FLAGS_SET, next, UINT64_MAX, NULL);
}

/* What somebody set while the messages were on their way goes with them: the records of those that were removed say
 * what was true in the end. */
static void carry_flags(struct mbox *v, struct str destination, const struct copied *copied, uint32_t first)
{
    struct mbox *there = NULL;

    for (size_t i = 0; v->b->ix.head != NULL && i < copied->count; i++) {
        uint64_t at = index_find(&v->b->ix, 0, copied->flags[i].uid);
        struct index_record rec;

        if (at >= v->b->ix.head->count)
            continue;
        rec = index_load(&v->b->ix, at);
        if (rec.uid != copied->flags[i].uid || !index_is_valid(&rec) ||
            (rec.flags == copied->flags[i].flags.system && rec.keywords == copied->flags[i].flags.keywords))
            continue;
        if (there == NULL && mbox_open(v->b->store, destination, 0, &there) < 0)
            return;
        if (set_there(v, there, first + (uint32_t)i,
                      &(struct mbox_flags){.system = rec.flags, .keywords = rec.keywords}) < 0)
            break;
    }
    (void)mbox_close(there);
}

static int finish(struct mbox_append *a, const struct numset *from, struct numset *ret_to, uint32_t *ret_uidvalidity,
                  uint32_t *ret_first)
{
    uint32_t uidvalidity, first;
    int r;

    if ((r = mbox_append_commit(a, &uidvalidity, &first)) < 0)
        return r;
    if (first != 0 && ret_to != NULL)
        r = numset_add(ret_to, first, (uint32_t)(first + numset_size(from) - 1));
    if (r == 0 && ret_uidvalidity != NULL)
        *ret_uidvalidity = uidvalidity;
    *ret_first = first;
    return r;
}

int mbox_copy(struct mbox *v, const struct numset *uids, struct str destination, bool move, struct numset *ret_from,
              struct numset *ret_to, uint32_t *ret_uidvalidity)
{
    struct mbox_store *store = v->b->store->parent != NULL ? v->b->store->parent : v->b->store;
    _cleanup_numset_ struct numset from = NUMSET_INIT;
    struct copied copied = {0};
    struct mbox_append *a;
    struct box *there;
    uint32_t first = 0;
    int r;

    if (move && mbox_is_readonly(v))
        return -EROFS;
    if ((r = box_open(store, destination, false, &there)) < 0)
        return r;
    box_free(there);
    if ((r = mbox_append_new(store, destination, &a)) < 0)
        return r;
    r = gather(v, uids, a, &from, &copied);
    if (r == 0 && from.count > 0)
        r = finish(a, &from, ret_to, ret_uidvalidity, &first);
    mbox_append_free(a);
    if (r == 0 && move && from.count > 0 && (r = mbox_remove(v, &from, NULL)) == 0 && first != 0)
        carry_flags(v, destination, &copied, first);
    free(copied.flags);
    return r == 0 && ret_from != NULL ? numset_add_set(ret_from, &from) : r;
}
