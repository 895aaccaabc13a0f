/*
 * Keeping the state log short: when most of it is history a new one is started with what is still true and not in the
 * mbox file. Runs as the user under BOX_STATE.
 */
#include <errno.h>
#include <string.h>

#include "shared/base/macros.h"
#include "shared/mbox/box.h"
#include "shared/mbox/log_read.h"

#define COMPACT_MIN   (256u << 10)
#define COMPACT_RATIO 4u
#define HISTORY_MAX   (64u << 10) /* bytes of expunge history that are kept */

/* The expunge entries behind the first `skip` bytes of them, and the MODSEQ up to which they are missing. */
static int copy_history(struct box *b, uint64_t skip, struct buf *out, uint64_t *ret_size, uint64_t *floor)
{
    struct log_reader reader;
    struct log_ranges head;
    struct log_base base;
    const char *ranges;
    size_t count;
    uint64_t size = 0;
    int r;

    if ((r = log_reader_init(&reader, b->log_fd, sizeof(struct log_head))) < 0)
        return r;
    while ((r = log_next(&reader)) > 0) {
        if (reader.type == LOG_BASE && reader.data.len == sizeof(base)) {
            memcpy(&base, reader.data.data, sizeof(base));
            *floor = base.floor > *floor ? base.floor : *floor;
        }
        if (reader.type != LOG_EXPUNGED || !log_ranges(&reader, &head, &ranges, &count))
            continue;
        size += reader.data.len;
        if (size <= skip)
            *floor = head.modseq > *floor ? head.modseq : *floor;
        else if (out != NULL && head.modseq > *floor && (r = log_put_raw(out, &reader)) < 0)
            break;
    }
    log_reader_finish(&reader);
    *ret_size = size;
    return r;
}

static int put_truth(struct box *b, struct buf *out)
{
    const struct index_header copy = *b->ix.head, *h = &copy; /* what is mapped may be cut, and then is zeros */
    uint64_t size = 0, floor = 0;
    int r;

    if (h->magic != INDEX_MAGIC)
        return -EIO;

    if ((r = copy_history(b, 0, NULL, &size, &floor)) < 0)
        return r;
    size = size > HISTORY_MAX ? size - HISTORY_MAX : 0;
    floor = 0;
    {
        _cleanup_buf_ struct buf history = BUF_INIT(LOG_ENTRY_MAX * 4);
        uint64_t all;

        if ((r = copy_history(b, size, &history, &all, &floor)) < 0 || (r = log_put_base(out, h, floor)) < 0 ||
            (r = buf_add_str(out, buf_str(&history))) < 0)
            return r;
    }
    for (unsigned n = 0; n < LIMIT_KEYWORDS; n++)
        if (h->keywords[n][0] != '\0' && (r = log_put_keyword(out, n, h->keywords[n])) < 0)
            return r;
    for (uint64_t i = 0; i < h->count; i++) {
        const struct index_brief *brief = index_brief(&b->ix, i);
        struct index_record rec;

        if (!index_brief_is_valid(brief))
            return index_spoil(b);
        if (!index_is_logged(brief))
            continue;
        rec = index_load(&b->ix, i);
        if (!index_is_valid(&rec))
            return index_spoil(b);
        if ((r = log_put_message(out, &rec)) < 0)
            return r;
    }
    return 0;
}

int log_compact(struct box *b)
{
    _cleanup_buf_ struct buf records = BUF_INIT(1u << 30);
    struct log_head head;
    uint64_t truth;
    int r;

    if (b->log_size < COMPACT_MIN || file_read(b->log_fd, &head, sizeof(head), 0) < 0)
        return 0;
    truth = b->ix.head->logged * (sizeof(struct log_entry) + sizeof(struct log_uid));
    if (truth < head.compacted)
        truth = head.compacted;
    if (b->log_size < COMPACT_MIN + COMPACT_RATIO * truth)
        return 0;
    if ((r = put_truth(b, &records)) < 0 || (r = index_begin(b)) < 0)
        return r;
    r = log_replace(b, &records);
    if (r < 0 && b->log_id == b->ix.head->log_id) { /* no room for a new one: the old one is as good */
        index_abort(b);
        return 0;
    }
    return r < 0 ? r : index_end(b);
}
