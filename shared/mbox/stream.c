/*
 * Reading a message in wire form, piece by piece. Each piece is read under a short read lock after a look whether the
 * file is still what the index says; nothing is locked while the caller sends it. Runs as the user.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/macros.h"
#include "shared/mbox/view.h"
#include "shared/mbox/wire.h"

#define STREAM_CHUNK (64u << 10)
#define STREAM_FIRST (8u << 10) /* often only the header is wanted */

struct mbox_stream {
    struct mbox *v;
    uint32_t uid;
    uint8_t hash[16];
    struct wire wire;
    struct index_record rec;
    struct block_key key; /* under which rec was read */
    bool has_key;
    bool is_doubtful; /* rec may have been put together of two moments: all of it is to be read again */
    bool wants_header;
    bool follows;  /* the message stands behind the one that was read before it */
    uint64_t at;   /* stored bytes consumed, from the From_ line on */
    uint64_t end;  /* of them that are the message: without the separator */
    uint64_t done; /* wire bytes handed out or skipped */
    uint64_t skip; /* wire bytes to leave out next */
    uint8_t *in;   /* STREAM_CHUNK, for what is not read ahead; NULL: not yet needed */
    uint8_t *out;  /* WIRE_ROOM(STREAM_CHUNK) */
};

static void rewind_stream(struct mbox_stream *m)
{
    const struct index_record *rec = &m->rec;

    m->wire = (struct wire){.form = (enum interop_form)rec->form,
                            .has_marker = (rec->bits & INDEX_HAS_MARKER) != 0,
                            .lacks_newline = (rec->bits & INDEX_LACKS_NEWLINE) != 0,
                            .header = rec->header - rec->block,
                            .last = '\n'};
    m->at = (uint64_t)rec->from_length + rec->block;
    m->end = rec->length - rec->separator;
    m->done = m->skip = 0;
    m->wants_header = false;
}

/* The record, and the state of the index that it belongs to if nothing changed meanwhile. */
static int read_record(struct mbox_stream *m, struct mbox *v, uint32_t seq)
{
    const struct index_header *h = v->ix.head;
    struct block_key after;
    int r;

    m->has_key = block_key(h, &m->key);
    if ((r = view_record(v, seq, &m->rec)) < 0)
        return r;
    m->has_key = m->has_key && block_key(h, &after) && memcmp(&after, &m->key, sizeof(after)) == 0;
    m->follows = block_follows(&v->block, m->rec.offset, m->rec.length);
    return 0;
}

void mbox_stream_free(struct mbox_stream *m)
{
    if (m == NULL)
        return;
    if (m->v->spare == NULL)
        m->v->spare = m->out;
    else
        free(m->out);
    free(m->in);
    free(m);
}

/* Where the message is now. Its stored form may have changed (another flag block), its wire form has not. */
static int relocate(struct mbox_stream *m)
{
    struct box *b = m->v->b;
    uint64_t done = m->done + m->skip;
    struct index_record rec;
    uint64_t low;
    int r;

    if ((r = index_map(b, b->ix.head->count)) < 0) /* it may have grown far */
        return r;
    low = index_find(&b->ix, 0, m->uid);
    if (low >= b->ix.head->count)
        return -ESTALE;
    rec = index_load(&b->ix, low);
    if (!index_is_valid(&rec))
        return -EIO;
    if (rec.uid != m->uid || (rec.bits & INDEX_EXPUNGED) || memcmp(rec.hash, m->rec.hash, sizeof(rec.hash)) != 0)
        return -ESTALE;
    if (!m->is_doubtful && rec.block == m->rec.block && rec.from_length == m->rec.from_length &&
        rec.header == m->rec.header) {
        m->rec = rec;
        m->end = rec.length - rec.separator;
        m->wire.lacks_newline = (rec.bits & INDEX_LACKS_NEWLINE) != 0;
        return 0;
    }
    m->rec = rec;
    m->is_doubtful = false;
    rewind_stream(m);
    m->skip = done;
    return 0;
}

/* Locks for reading, with m->rec being right. */
static int lock_for_read(struct mbox_stream *m)
{
    struct box *b = m->v->b;
    int r;

    if ((r = box_lock(b, BOX_READ)) < 0)
        return r;
    /* What the mapped header says is enough while the file is the one it describes. */
    if (b->ix.head != NULL && !b->ix.head->is_dirty && !b->ix.head->is_superseded && !b->ix.head->is_unproven &&
        index_describes(b->ix.head, &b->facts) && relocate(m) == 0)
        return 0;
    /* Else it may only be that somebody is writing to the index just now. */
    box_unlock(b);
    if ((r = box_lock_synced(b, BOX_READ)) < 0)
        return r;
    r = b->ix.head->uidvalidity == m->v->uidvalidity ? relocate(m) : -ESTALE;
    if (r < 0)
        box_unlock(b);
    return r;
}

/* Somebody was changing the index when the record was read: now as it is in one moment. */
static int read_again(struct mbox_stream *m)
{
    int r;

    m->is_doubtful = true;
    if ((r = lock_for_read(m)) == 0)
        box_unlock(m->v->b);
    return r;
}

int mbox_stream_new(struct mbox *v, uint32_t seq, struct mbox_stream **ret)
{
    struct mbox_stream *m = calloc(1, sizeof(*m));
    int r;

    if (m == NULL)
        return -ENOMEM;
    r = read_record(m, v, seq);
    if (r == 0 && (m->rec.bits & INDEX_EXPUNGED))
        r = -ESTALE;
    m->v = v;
    m->out = v->spare;
    v->spare = NULL;
    if (r == 0 && m->out == NULL && (m->out = malloc(WIRE_ROOM(STREAM_CHUNK))) == NULL)
        r = -ENOMEM;
    if (r < 0) {
        mbox_stream_free(m);
        return r;
    }
    m->uid = m->rec.uid;
    rewind_stream(m);
    if (!m->has_key && (r = read_again(m)) < 0) {
        mbox_stream_free(m);
        return r;
    }
    *ret = m;
    return 0;
}

/* What was read ahead, if the index says that nothing moved since: no lock, no system call. */
static size_t look_ahead(const struct mbox_stream *m, size_t n, const uint8_t **ret)
{
    struct block_key now;

    if (!m->has_key || !block_key(m->v->ix.head, &now) || memcmp(&now, &m->key, sizeof(now)) != 0)
        return 0;
    return block_look(&m->v->block, &m->key, m->rec.offset + m->at, n, ret);
}

/* Reads n bytes with the read lock held; with messages in order also what follows them. */
static int read_locked(struct mbox_stream *m, size_t n, const uint8_t **ret)
{
    struct box *b = m->v->b;
    uint64_t offset = m->rec.offset + m->at;
    int r;

    if (b->fd < 0)
        return -ESTALE;
    m->has_key = b->ix.head != NULL && block_key(b->ix.head, &m->key);
    if (m->follows && m->has_key) {
        r = block_fill(&m->v->block, b->fd, &m->key, offset, n);
        return r < 0 ? r : block_look(&m->v->block, &m->key, offset, n, ret) == n ? 0 : -ENODATA;
    }
    if (m->in == NULL && (m->in = malloc(STREAM_CHUNK)) == NULL)
        return -ENOMEM;
    *ret = m->in;
    return file_read(b->fd, m->in, n, offset);
}

/* With the read lock held: reads the header that is wanted, and with it those of the messages behind. -EAGAIN: it is
 * better read with all that follows. */
static int read_headers(struct mbox_stream *m)
{
    const struct index *ix = &m->v->b->ix;
    size_t most = block_headers(&m->v->block);
    struct block_pieces pieces = {.count = 0};
    struct block_key seen; /* by the view, which goes by another index until it is polled if there is a new one */
    uint64_t at;

    if (!m->wants_header || !m->follows || most == 0 || m->v->b->fd < 0 || ix->head == NULL ||
        !block_key(ix->head, &m->key) || !block_key(m->v->ix.head, &seen) || memcmp(&seen, &m->key, sizeof(seen)) != 0)
        return -EAGAIN;
    at = index_find(ix, 0, m->uid);
    for (uint64_t end = at + most; at < end && at < ix->head->count; at++) {
        struct index_record rec = index_load(ix, at);
        uint64_t len = (uint64_t)rec.from_length + rec.header + sizeof("\r\n") - 1;

        if (!index_is_valid(&rec) || len > STREAM_FIRST || len > rec.length || rec.offset >= m->key.size ||
            len > m->key.size - rec.offset)
            break;
        if (!(rec.bits & INDEX_EXPUNGED) && !block_add_piece(&pieces, rec.offset, (size_t)len))
            break;
    }
    m->has_key = true;
    return pieces.count == 0 ? -EAGAIN : block_fill_pieces(&m->v->block, m->v->b->fd, &m->key, &pieces);
}

/* How many of the stored bytes are wanted at once. */
static size_t chunk_length(const struct mbox_stream *m)
{
    size_t most = m->done == 0 && m->skip == 0 ? STREAM_FIRST : STREAM_CHUNK;

    return m->end - m->at < most ? (size_t)(m->end - m->at) : most;
}

/* The header alone, if that is what is wanted and it was read ahead. */
static size_t look_at_header(const struct mbox_stream *m, const uint8_t **ret)
{
    uint64_t end = (uint64_t)m->rec.from_length + m->rec.header + sizeof("\r\n") - 1; /* with the empty line */
    size_t n;

    if (!m->wants_header || m->at >= end || end >= m->end || end - m->at > STREAM_FIRST)
        return 0;
    n = look_ahead(m, (size_t)(end - m->at), ret);
    /* A whole line makes progress. */
    return n == end - m->at && n >= 2 && ((*ret)[n - 1] == '\n' || (*ret)[n - 2] == '\n') ? n : 0;
}

/* What was read ahead, if it is enough to make progress with. */
static size_t look_at_start(const struct mbox_stream *m, const uint8_t **ret)
{
    size_t header = look_at_header(m, ret);
    size_t n = header > 0 ? header : look_ahead(m, chunk_length(m), ret);

    return header > 0 || n >= INTEROP_WINDOW || n == m->end - m->at ? n : 0;
}

/* Stored bytes from m->at on, good until the next call on the view: all that are left, or enough to make progress. */
static int next_chunk(struct mbox_stream *m, const uint8_t **ret, size_t *ret_len)
{
    size_t n = look_at_start(m, ret);
    int r;

    m->v->block.headers = m->wants_header ? m->v->block.headers + 1 : 0;
    if (n > 0) {
        m->wants_header = false;
        *ret_len = n;
        return 0;
    }
    if ((r = lock_for_read(m)) < 0)
        return r;
    /* It may have moved, and be another size. */
    if (m->at > m->end)
        r = -ESTALE;
    else if (read_headers(m) == 0 && (n = look_at_start(m, ret)) > 0)
        *ret_len = n;
    else
        r = read_locked(m, *ret_len = chunk_length(m), ret);
    m->wants_header = false;
    box_unlock(m->v->b);
    return r == -ENODATA ? -ESTALE : r;
}

void mbox_stream_want_header(struct mbox_stream *m)
{
    m->wants_header = m->done == 0 && m->skip == 0;
}

int mbox_stream_next(struct mbox_stream *m, struct str *ret_bytes)
{
    size_t len, made, consumed;
    const uint8_t *bytes;
    uint64_t skip;
    int r;

    while (m->at < m->end) {
        if ((r = next_chunk(m, &bytes, &len)) < 0)
            return r;
        made = wire_convert(&m->wire, bytes, len, m->at + len == m->end, m->out, &consumed);
        m->at += consumed;
        skip = m->skip < made ? m->skip : made;
        m->skip -= skip;
        m->done += made;
        if (made > skip) {
            *ret_bytes = (struct str){(const char *)m->out + skip, made - (size_t)skip};
            return 0;
        }
    }
    *ret_bytes = STR_NULL;
    return 0;
}

int mbox_stream_seek(struct mbox_stream *m, uint64_t offset)
{
    if (offset < m->done)
        rewind_stream(m);
    m->skip = offset - m->done;
    return 0;
}
